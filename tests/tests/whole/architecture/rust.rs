//! Rust source as tokens with line numbers: enough to find imports, calls, attributes and literals. It expands no macros and knows no types.

/// A token and the line it begins on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub line: usize,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Identifier or keyword.
    Word(String),
    /// What a string literal of any kind holds.
    Text(String),
    Number(String),
    /// Any other character; `::` is two of them.
    Mark(char),
}

impl Token {
    pub fn word(&self) -> Option<&str> {
        if let Kind::Word(word) = &self.kind { Some(word) } else { None }
    }

    pub fn text(&self) -> Option<&str> {
        if let Kind::Text(text) = &self.kind { Some(text) } else { None }
    }

    pub fn is(&self, mark: char) -> bool {
        self.kind == Kind::Mark(mark)
    }
}

/// All tokens; comments are left out.
pub fn lex(text: &str) -> Vec<Token> {
    let mut lexer = Lexer { chars: text.chars().collect(), at: 0, line: 1 };
    let mut tokens = Vec::new();
    while let Some(char) = lexer.peek(0) {
        let line = lexer.line;
        let kind = match char {
            _ if char.is_whitespace() => {
                lexer.step();
                None
            }
            '/' if lexer.peek(1) == Some('/') => {
                while lexer.peek(0).is_some_and(|char| char != '\n') {
                    lexer.step();
                }
                None
            }
            '/' if lexer.peek(1) == Some('*') => {
                lexer.block_comment();
                None
            }
            '"' => Some(Kind::Text(lexer.string())),
            '\'' => lexer.quote(),
            _ if char.is_ascii_digit() => Some(Kind::Number(lexer.number(!names_a_field(&tokens)))),
            _ if char.is_alphabetic() || char == '_' => Some(lexer.word()),
            _ => {
                lexer.step();
                Some(Kind::Mark(char))
            }
        };
        tokens.extend(kind.map(|kind| Token { line, kind }));
    }
    tokens
}

/// Whether a number that comes next is a field, as in `pair.0.1`; in `0..1.5` it is none.
fn names_a_field(tokens: &[Token]) -> bool {
    match tokens {
        [.., before, last] => last.is('.') && !before.is('.'),
        _ => false,
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
    line: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn step(&mut self) -> Option<char> {
        let char = self.peek(0)?;
        self.at += 1;
        self.line += usize::from(char == '\n');
        Some(char)
    }

    fn block_comment(&mut self) {
        let mut depth = 0;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some('/'), Some('*')) => depth += 1,
                (Some('*'), Some('/')) => depth -= 1,
                (None, _) => return,
                _ => {
                    self.step();
                    continue;
                }
            }
            self.step();
            self.step();
            if depth == 0 {
                return;
            }
        }
    }

    /// A string with escapes; an escaped line break swallows the white space after it.
    fn string(&mut self) -> String {
        self.step();
        let mut text = String::new();
        while let Some(char) = self.step() {
            match char {
                '"' => break,
                '\\' => match self.step() {
                    Some('\n') => {
                        while self.peek(0).is_some_and(char::is_whitespace) {
                            self.step();
                        }
                    }
                    Some('n') => text.push('\n'),
                    Some(escaped) => text.push(escaped),
                    None => break,
                },
                _ => text.push(char),
            }
        }
        text
    }

    /// A raw string, the cursor standing on its hashes or its quote.
    fn raw_string(&mut self) -> String {
        let hashes = self.hashes();
        self.at += hashes + 1;
        let mut text = String::new();
        while let Some(char) = self.step() {
            if char == '"' && self.hashes() >= hashes {
                self.at += hashes;
                break;
            }
            text.push(char);
        }
        text
    }

    fn hashes(&self) -> usize {
        self.chars.iter().skip(self.at).take_while(|char| **char == '#').count()
    }

    /// A character is no token; nor is a lifetime.
    fn quote(&mut self) -> Option<Kind> {
        self.step();
        if self.peek(0) == Some('\\') {
            self.step();
            self.step();
            while self.step().is_some_and(|char| char != '\'') {}
        } else if self.peek(1) == Some('\'') {
            self.step();
            self.step();
        } else {
            while self.peek(0).is_some_and(|char| char.is_alphanumeric() || char == '_') {
                self.step();
            }
        }
        None
    }

    fn number(&mut self, may_have_point: bool) -> String {
        let mut text = String::new();
        while let Some(char) = self.peek(0) {
            let point = may_have_point && char == '.' && !text.contains('.') && self.peek(1).is_some_and(|next| next.is_ascii_digit());
            if !(point || char.is_alphanumeric() || char == '_') {
                break;
            }
            text.push(char);
            self.step();
        }
        text
    }

    /// A word, or the literal that its letters prefix.
    fn word(&mut self) -> Kind {
        let mut word = String::new();
        while let Some(char) = self.peek(0).filter(|char| char.is_alphanumeric() || *char == '_') {
            word.push(char);
            self.step();
        }
        let quoted = self.peek(self.hashes()) == Some('"');
        match word.as_str() {
            "r" | "br" | "cr" if quoted => Kind::Text(self.raw_string()),
            "b" | "c" if self.peek(0) == Some('"') => Kind::Text(self.string()),
            "r" if self.peek(0) == Some('#') => {
                self.step();
                self.word()
            }
            _ => Kind::Word(word),
        }
    }
}

/// An attribute: its first line and the tokens between its brackets.
pub struct Attribute<'a> {
    pub line: usize,
    pub tokens: &'a [Token],
    /// Index of the token after it.
    pub end: usize,
}

/// The attribute that begins at `at`, outer or inner.
pub fn attribute(tokens: &[Token], at: usize) -> Option<Attribute<'_>> {
    let hash = tokens.get(at).filter(|token| token.is('#'))?;
    let open = if tokens.get(at + 1)?.is('!') { at + 2 } else { at + 1 };
    tokens.get(open).filter(|token| token.is('['))?;
    let end = closing(tokens, open);
    Some(Attribute { line: hash.line, tokens: tokens.get(open + 1..end - 1)?, end })
}

/// Index after the bracket that closes the one at `open`.
pub fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.kind {
            Kind::Mark('(' | '[' | '{') => depth += 1,
            Kind::Mark(')' | ']' | '}') => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Whether an attribute makes its item one of tests only.
fn is_for_tests(attribute: &[Token]) -> bool {
    let words: Vec<&str> = attribute.iter().filter_map(Token::word).collect();
    words.first() == Some(&"cfg") && words.contains(&"test") && !words.contains(&"not")
}

/// The tokens without items of tests, and the names of the modules that are such items and lie in files of their own.
pub fn without_tests(tokens: &[Token]) -> (Vec<Token>, Vec<String>) {
    let mut kept = Vec::new();
    let mut modules = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        match attribute(tokens, at) {
            Some(found) if is_for_tests(found.tokens) => {
                let mut end = found.end;
                while let Some(next) = attribute(tokens, end) {
                    end = next.end;
                }
                if tokens[at + 1].is('!') {
                    return (Vec::new(), modules);
                }
                let item = end;
                while end < tokens.len() && !tokens[end].is(';') && !tokens[end].is('{') {
                    end = if tokens[end].is('(') || tokens[end].is('[') { closing(tokens, end) } else { end + 1 };
                }
                if tokens.get(end).is_some_and(|token| token.is(';')) {
                    let name = tokens[item..end].windows(2).find(|pair| pair[0].word() == Some("mod")).and_then(|pair| pair[1].word());
                    modules.extend(name.map(str::to_owned));
                    at = end + 1;
                } else {
                    at = closing(tokens, end);
                }
            }
            _ => {
                kept.push(tokens[at].clone());
                at += 1;
            }
        }
    }
    (kept, modules)
}

#[test]
fn literals_comments_and_lifetimes_are_told_apart() {
    let words = |text: &str| -> Vec<String> {
        lex(text).iter().map(|token| token.word().map_or_else(|| format!("{:?}", token.kind), str::to_owned)).collect()
    };
    assert_eq!(words("a /* b /* c */ d */ e // f\n'x' '\\'' 'life g"), ["a", "e", "g"]);
    assert_eq!(
        words(r##"r#"a"b"# b"c\"d" r#type 1.5 0..2"##),
        [r#"Text("a\"b")"#, r#"Text("c\"d")"#, "type", r#"Number("1.5")"#, r#"Number("0")"#, "Mark('.')", "Mark('.')", r#"Number("2")"#]
    );
}

#[test]
fn items_of_tests_are_left_out() {
    let text = "fn a() {} #[cfg(test)] mod b; #[cfg(any(test, feature = \"x\"))] #[x] pub mod c { fn d() {} } #[cfg(not(test))] fn e() {}
        #[cfg(test)] const F: [u8; 2] = [1, 2]; fn g() {}";
    let (kept, modules) = without_tests(&lex(text));
    let words: Vec<&str> = kept.iter().filter_map(Token::word).filter(|word| word.len() == 1).collect();
    assert_eq!((words, modules), (vec!["a", "e", "g"], vec!["b".to_owned()]));
}
