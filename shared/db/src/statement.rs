//! A statement in the words of both engines. It does not know what the statement is for.

/// One statement with its text for each engine. Made by [`statement!`](crate::statement!) from two `.sql` files.
#[derive(Debug, Clone, Copy)]
pub struct Statement {
    /// `crate.name`: errors carry it.
    pub name: &'static str,
    /// The text for SQLite.
    pub sqlite: &'static str,
    /// The text for PostgreSQL.
    pub postgres: &'static str,
}

/// The statement whose texts are `store/sqlite/NAME.sql` and `store/postgres/NAME.sql` beside the invoking file (a crate's `src/store.rs`).
#[macro_export]
macro_rules! statement {
    ($name:literal) => {
        $crate::Statement {
            name: concat!(env!("CARGO_PKG_NAME"), ".", $name),
            sqlite: include_str!(concat!("store/sqlite/", $name, ".sql")),
            postgres: include_str!(concat!("store/postgres/", $name, ".sql")),
        }
    };
}

/// The largest N of `$N` in a text: how many values it takes.
pub(crate) fn parameters(text: &str) -> usize {
    text.split('$')
        .skip(1)
        .filter_map(|rest| {
            rest.bytes().take_while(u8::is_ascii_digit).try_fold(None, |number: Option<usize>, digit| {
                number.unwrap_or(0).checked_mul(10)?.checked_add(usize::from(digit - b'0')).map(Some)
            })?
        })
        .max()
        .unwrap_or(0)
}

/// Whether `$number` is cast wherever the engine could have to guess its type: at least once.
pub(crate) fn is_cast(text: &str, number: usize) -> bool {
    text.contains(&format!("${number}::"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_counted_by_their_largest_number() {
        for (text, count) in [("SELECT 1", 0), ("SELECT $1, $1", 1), ("x = $12 AND y = $2", 12), ("AS $$ body $$", 0)] {
            assert_eq!(parameters(text), count, "{text}");
        }
        assert!(is_cast("VALUES ($1, $10::text)", 10) && !is_cast("VALUES ($1, $10::text)", 1));
    }
}
