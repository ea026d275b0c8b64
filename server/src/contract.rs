//! What goes over the wire, as OpenAPI 3.1: types describe themselves where they are declared, and each route module lists its operations.
//! It knows no route and no domain; `crate::openapi` puts the documents together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};
use shared_types::{Instant, OrganizationId, ProjectId, SourceId};

/// Schemas by name, as they are met.
pub type Named = BTreeMap<String, Value>;

/// A type that goes over the wire.
pub trait Described {
    /// Its JSON Schema. A named type goes into `named` and is referred to.
    fn schema(named: &mut Named) -> Value;

    /// Whether a member of this type may be absent.
    fn optional() -> bool {
        false
    }
}

macro_rules! plain {
    ($($kind:ty => $schema:expr;)*) => {$(
        impl Described for $kind {
            fn schema(_: &mut Named) -> Value {
                $schema
            }
        }
    )*};
}

plain! {
    OrganizationId => json!({"type": "string"});
    ProjectId => json!({"type": "string"});
    SourceId => json!({"type": "string"});
    Instant => json!({"type": "string", "format": "date-time"});
    String => json!({"type": "string"});
    &'static str => json!({"type": "string"});
    bool => json!({"type": "boolean"});
    u16 => json!({"type": "integer", "minimum": 0, "maximum": 65_535});
    u64 => json!({"type": "integer", "minimum": 0});
    usize => json!({"type": "integer", "minimum": 0});
    i64 => json!({"type": "integer"});
    Value => json!({});
}

impl<T: Described> Described for Option<T> {
    fn schema(named: &mut Named) -> Value {
        json!({"anyOf": [T::schema(named), {"type": "null"}]})
    }

    fn optional() -> bool {
        true
    }
}

impl<T: Described> Described for Vec<T> {
    fn schema(named: &mut Named) -> Value {
        json!({"type": "array", "items": T::schema(named)})
    }
}

impl<T: Described> Described for BTreeSet<T> {
    fn schema(named: &mut Named) -> Value {
        json!({"type": "array", "uniqueItems": true, "items": T::schema(named)})
    }
}

impl<T: Described> Described for BTreeMap<String, T> {
    fn schema(named: &mut Named) -> Value {
        json!({"type": "object", "additionalProperties": T::schema(named)})
    }
}

/// A member of an object: its name, its schema, whether it may be absent, and its sentences.
pub type Member = (&'static str, Value, bool, String);

/// An object of these members.
fn members_of<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The schema of an object, which is put into `named` once. Two types of one name would be described as the first of them: they halt it.
pub fn object(named: &mut Named, name: &str, about: &str, members: impl FnOnce(&mut Named) -> Vec<Member>) -> Value {
    if !named.contains_key(name) {
        // A type that holds itself meets its own name.
        named.insert(name.to_owned(), Value::Null);
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for (member, mut schema, optional, text) in members(named) {
            let member = member.trim_start_matches("r#");
            if let Some(schema) = schema.as_object_mut() {
                schema.insert("description".to_owned(), text.into());
            }
            properties.insert(member.to_owned(), schema);
            if !optional {
                required.push(member.to_owned());
            }
        }
        let mut schema = members_of([("type", "object".into()), ("description", about.into()), ("properties", properties.into())]);
        if !required.is_empty() {
            schema.insert("required".to_owned(), required.into());
        }
        named.insert(name.to_owned(), schema.into());
    } else if let Some(known) = named.get(name).and_then(|known| known.get("description")) {
        assert_eq!(known, about, "two types are named {name}: rename one of them");
    }
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// Lines of a doc comment as one text.
pub fn sentences(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// Declares structs whose doc comments are also what the OpenAPI document says of them.
macro_rules! wire {
    ($(
        $(#[doc = $about:literal])+
        #[derive($($derive:ident),+)]
        $(#[serde($($container:tt)*)])?
        pub struct $name:ident {
            $(
                $(#[doc = $text:literal])+
                $(#[serde($($member:tt)*)])?
                pub $field:ident: $kind:ty,
            )*
        }
    )+) => {$(
        $(#[doc = $about])+
        #[derive(Debug, $($derive),+)]
        $(#[serde($($container)*)])?
        pub struct $name {
            $(
                $(#[doc = $text])+
                $(#[serde($($member)*)])?
                pub $field: $kind,
            )*
        }

        impl $crate::contract::Described for $name {
            fn schema(named: &mut $crate::contract::Named) -> serde_json::Value {
                let about = $crate::contract::sentences(&[$($about),+]);
                $crate::contract::object(named, stringify!($name), &about, |named| {
                    vec![$((
                        stringify!($field),
                        <$kind as $crate::contract::Described>::schema(named),
                        <$kind as $crate::contract::Described>::optional() || stringify!($($($member)*)?).contains("default"),
                        $crate::contract::sentences(&[$($text),+]),
                    )),*]
                })
            }
        }
    )+};
}
pub(crate) use wire;

type Schema = fn(&mut Named) -> Value;

/// One operation of the API.
#[derive(Clone, Debug)]
pub struct Operation {
    /// `get`, `post` or `delete`.
    pub method: &'static str,
    /// The path, parameters in braces.
    pub path: &'static str,
    id: &'static str,
    summary: &'static str,
    description: &'static str,
    path_parameters: Vec<(&'static str, &'static str)>,
    query: Option<Schema>,
    body: Vec<(&'static str, Schema)>,
    answers: Vec<Answer>,
    open: bool,
}

#[derive(Clone, Debug)]
struct Answer {
    status: u16,
    description: &'static str,
    contents: Vec<(&'static str, Schema)>,
    headers: Vec<(&'static str, &'static str)>,
}

/// Text or bytes of another format than JSON.
fn opaque(_: &mut Named) -> Value {
    json!({"type": "string"})
}

impl Operation {
    fn new(method: &'static str, path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            path,
            id,
            summary,
            description: "",
            path_parameters: Vec::new(),
            query: None,
            body: Vec::new(),
            answers: Vec::new(),
            open: false,
        }
    }

    /// Without a key.
    pub fn open(self) -> Self {
        Self { open: true, ..self }
    }

    /// Reads something.
    pub fn get(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("get", path, id, summary)
    }

    /// Sends something.
    pub fn post(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("post", path, id, summary)
    }

    /// Ends something.
    pub fn delete(path: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self::new("delete", path, id, summary)
    }

    /// More about it.
    pub fn about(self, description: &'static str) -> Self {
        Self { description, ..self }
    }

    /// A parameter of the path.
    pub fn in_path(mut self, name: &'static str, description: &'static str) -> Self {
        self.path_parameters.push((name, description));
        self
    }

    /// The parameters of the query: the members of a struct.
    pub fn query<T: Described>(self) -> Self {
        Self { query: Some(T::schema), ..self }
    }

    /// A body that is read.
    pub fn body<T: Described>(mut self, media: &'static str) -> Self {
        self.body.push((media, T::schema));
        self
    }

    /// An answer in JSON.
    pub fn answers<T: Described>(mut self, status: u16, description: &'static str) -> Self {
        self.answers.push(Answer { status, description, contents: vec![("application/json", T::schema)], headers: Vec::new() });
        self
    }

    /// The answer before it also comes in another format.
    pub fn or(mut self, media: &'static str) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.contents.push((media, opaque));
        }
        self
    }

    /// An answer in another format than JSON.
    pub fn sends(mut self, status: u16, description: &'static str, media: &'static str) -> Self {
        self.answers.push(Answer { status, description, contents: vec![(media, opaque)], headers: Vec::new() });
        self
    }

    /// A header of the answer before it.
    pub fn with_header(mut self, name: &'static str, description: &'static str) -> Self {
        if let Some(answer) = self.answers.last_mut() {
            answer.headers.push((name, description));
        }
        self
    }

    /// A problem document.
    pub fn problem(mut self, status: u16, description: &'static str) -> Self {
        let contents: Vec<(&'static str, Schema)> = vec![("application/problem+json", crate::problem::ProblemView::schema)];
        self.answers.push(Answer { status, description, contents, headers: Vec::new() });
        self
    }

    /// The operation as OpenAPI has it.
    pub fn document(&self, domain: &str, named: &mut Named) -> Value {
        let mut parameters: Vec<Value> = Vec::new();
        for (name, description) in &self.path_parameters {
            parameters
                .push(json!({"name": name, "in": "path", "required": true, "description": description, "schema": {"type": "string"}}));
        }
        if let Some(query) = self.query {
            parameters.extend(query_parameters(query));
        }
        let mut responses = Map::new();
        let mut answers = self.answers.clone();
        if !self.open {
            let keyed = Self::new(self.method, self.path, self.id, self.summary)
                .problem(401, "The request has no key that is known.")
                .problem(403, "The key may not do that.")
                .problem(429, "The key asks too much at once; send it again after retry-after.");
            answers.extend(keyed.answers.into_iter().filter(|common| self.answers.iter().all(|own| own.status != common.status)));
        }
        for answer in &answers {
            let content = contents(&answer.contents, named);
            let mut response = members_of([("description", answer.description.into()), ("content", content.into())]);
            let header = |(name, description): &(&str, &str)| {
                ((*name).to_owned(), json!({"description": description, "schema": {"type": "string"}}))
            };
            let headers: Map<String, Value> = answer.headers.iter().map(header).collect();
            if !headers.is_empty() {
                response.insert("headers".to_owned(), headers.into());
            }
            responses.insert(answer.status.to_string(), response.into());
        }
        let mut operation = members_of([
            ("operationId", self.id.into()),
            ("tags", json!([domain])),
            ("summary", self.summary.into()),
            ("responses", responses.into()),
        ]);
        if self.open {
            operation.insert("security".to_owned(), json!([]));
        }
        if !self.description.is_empty() {
            operation.insert("description".to_owned(), self.description.into());
        }
        if !parameters.is_empty() {
            operation.insert("parameters".to_owned(), parameters.into());
        }
        if !self.body.is_empty() {
            operation.insert("requestBody".to_owned(), json!({"required": true, "content": contents(&self.body, named)}));
        }
        operation.into()
    }
}

fn contents(contents: &[(&'static str, Schema)], named: &mut Named) -> Map<String, Value> {
    contents.iter().map(|(media, schema)| ((*media).to_owned(), json!({"schema": schema(named)}))).collect()
}

/// The members of a struct as parameters. Its own name is not part of the document.
fn query_parameters(schema: Schema) -> Vec<Value> {
    let mut own = Named::new();
    schema(&mut own);
    let Some(object) = own.into_values().next() else { return Vec::new() };
    let required: Vec<&str> = object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let members = object.get("properties").and_then(Value::as_object).into_iter().flatten();
    members
        .map(|(name, schema)| {
            let plain = schema.get("anyOf").and_then(|any| any.get(0)).unwrap_or(schema);
            let mut plain = plain.clone();
            if let Some(plain) = plain.as_object_mut() {
                plain.remove("description");
            }
            json!({
                "name": name, "in": "query", "required": required.contains(&name.as_str()), "description": schema["description"], "schema": plain,
            })
        })
        .collect()
}
