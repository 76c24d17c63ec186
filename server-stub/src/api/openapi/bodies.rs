//! Bodies of writes that are not what is described: each is refused with a status and a message.

use std::sync::Arc;

use http::Method;
use pretty_assertions::assert_eq;
use reqwest::{Client, RequestBuilder};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use super::{Call, Takes, calls, document};
use crate::body_limit::LARGEST_BODY;
use crate::clock::SystemClock;
use crate::scheduling::tests::Scene;
use crate::users::Login;

const PASSWORD: &str = "of the first admin";

const YAML: &str = "format_version: 11
pipelines:
  web:
    group: apps
    materials: { src: { type: configrepo } }
    stages: [ { build: { tasks: [ { script: make } ] } } ]
";

/// In place of what a path names.
const PARAMETERS: [(&str, &str); 8] = [
    ("{pipeline}", "web"),
    ("{counter}", "1"),
    ("{stage}", "build"),
    ("{stage_counter}", "1"),
    ("{uuid}", "5d2c"),
    ("{sha256}", "ab"),
    ("{name}", "staging"),
    ("{id}", "conf"),
];

/// One of each kind of value.
fn kinds() -> [Value; 9] {
    [
        json!(true),
        json!(-7),
        json!(1.5),
        json!(1e300),
        json!("\u{0}\u{202e}"),
        json!([]),
        json!([[1], { "a": "b" }, "x"]),
        json!({}),
        json!({ "a": { "b": [null] } }),
    ]
}

/// What the description says of a value.
struct Described<'d> {
    document: &'d Value,
    schema: &'d Value,
}

impl<'d> Described<'d> {
    fn of(document: &'d Value, schema: &'d Value) -> Self {
        let mut schema = schema;
        loop {
            if let Some(name) = schema["$ref"].as_str() {
                schema = document.pointer(name.trim_start_matches('#')).unwrap();
            } else if let Some(choices) = schema["oneOf"].as_array() {
                // One that may be absent as well.
                let other = choices.iter().find(|one| one["type"] != "null");
                schema = other.unwrap();
            } else {
                return Self { document, schema };
            }
        }
    }

    fn properties(&self) -> Vec<(&'d str, Self)> {
        let properties = self.schema["properties"].as_object();
        let properties = properties.into_iter().flatten();
        properties
            .map(|(name, schema)| (name.as_str(), Self::of(self.document, schema)))
            .collect()
    }

    fn is(&self, kind: &str) -> bool {
        let told = &self.schema["type"];
        told == kind
            || told
                .as_array()
                .is_some_and(|all| all.contains(&json!(kind)))
    }

    /// Whether the description lets a value be of this kind.
    fn takes(&self, value: &Value) -> bool {
        let kind = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        // A list may be one text with commas between.
        let is_list = kind == "string" && self.is("array");
        self.schema["type"].is_null() || self.is(kind) || is_list
    }

    /// A value that is as it should be.
    fn sample(&self) -> Value {
        if self.is("object") {
            let properties = self.properties().into_iter();
            let fields = properties.map(|(name, of)| (name.to_owned(), of.sample()));
            Value::Object(fields.collect())
        } else if self.is("array") {
            json!([Self::of(self.document, &self.schema["items"]).sample()])
        } else if self.is("boolean") {
            json!(false)
        } else if self.is("integer") || self.is("number") {
            json!(1)
        } else {
            json!("x")
        }
    }

    /// The sample with each of its parts taken away, or made something of every other kind, and such a
    /// part alone; and whether it is not of the kind that is described, which is only known of the
    /// topmost level.
    fn variants(&self) -> Vec<(Value, bool)> {
        let mut variants = Vec::new();
        for (name, part) in self.properties() {
            let with = |value: Option<Value>| {
                let mut sample = self.sample();
                let fields: &mut Map<_, _> = sample.as_object_mut().unwrap();
                match value {
                    Some(value) => fields.insert(name.to_owned(), value),
                    None => fields.remove(name),
                };
                sample
            };
            variants.push((with(None), false));
            variants.push((with(Some(Value::Null)), false));
            for value in kinds() {
                // Links are of answers.
                let is_wrong = name != "_links" && !part.takes(&value);
                variants.push((json!({ name: value.clone() }), is_wrong));
                variants.push((with(Some(value)), is_wrong));
            }
            let of_items = part.schema.get("items");
            let inner = of_items.map_or_else(
                || part.variants(),
                |items| {
                    let items = Self::of(part.document, items).variants().into_iter();
                    items.map(|(item, _)| (json!([item]), false)).collect()
                },
            );
            variants.extend(
                inner
                    .into_iter()
                    .map(|(inner, _)| (with(Some(inner)), false)),
            );
        }
        variants
    }
}

/// The description of a call's JSON.
fn body<'d>(document: &'d Value, call: &Call) -> Described<'d> {
    let operation = &document["paths"][call.described_path()][call.method.as_str().to_lowercase()];
    let content = operation["requestBody"]["content"].as_object().unwrap();
    Described::of(document, &content["application/json"]["schema"])
}

struct Server {
    scene: Scene,
    client: Client,
}

impl Server {
    fn request(&self, call: &Call) -> RequestBuilder {
        let mut path = call.path.trim_start_matches("/go").to_owned();
        for (name, value) in PARAMETERS {
            path = path.replace(name, value);
        }
        let url = format!("{}{path}", self.scene.app().endpoints.http_url);
        let request = self.client.request(call.method.clone(), url);
        request.basic_auth("admin", Some(PASSWORD))
    }

    /// Sends a body and adds what is wrong with the answer.
    async fn send(
        &self,
        call: &Call,
        media_type: &str,
        body: String,
        expected: &[u16],
        wrong: &mut Vec<String>,
    ) {
        let mut shown = format!("{} {} {body}", call.method, call.path);
        shown.truncate(shown.floor_char_boundary(300));
        let request = self.request(call).header("Content-Type", media_type);
        let response = request.body(body).send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        let message = answer["message"].as_str().or(answer["error"].as_str());
        let is_told = status < 400 || message.is_some_and(|message| !message.is_empty());
        let is_expected = expected.is_empty() && status < 500 || expected.contains(&status);
        if !(is_told && is_expected) {
            wrong.push(format!("{shown}\n    {status} {text}"));
        }
    }
}

#[tokio::test]
async fn no_body_that_is_wrong_is_taken_or_breaks_anything() {
    let login = Login::On {
        admin_password: Some(SecretString::from(PASSWORD)),
        password_file: None,
    };
    let scene = Scene::started(YAML, login, Arc::new(SystemClock)).await;
    scene.agent("5d2c", &["linux", "jdk"], &[]).await;
    scene.trigger().await;
    let client = Client::new();
    let server = Server { scene, client };
    let document = serde_json::to_value(document()).unwrap();
    let json = "application/json";
    let mut wrong = Vec::new();
    let mut sent = 0;
    let calls = calls::all().filter(|call| call.method != Method::GET);
    for call in calls.filter(|call| matches!(call.takes, Takes::Json(_) | Takes::MaybeJson(_))) {
        let described = body(&document, &call);
        for (text, status) in [
            ("{", 400),
            ("", 400),
            ("[]", 400),
            ("null", 400),
            ("7", 400),
            ("\"x\"", 400),
            ("{\"a\": 1}}", 400),
            ("{\"a\": 1e999}", 400),
            (&*"[".repeat(100_000), 400),
            (&*format!("{{\"a\": {}", "{\"a\":".repeat(10_000)), 400),
            (&*" ".repeat(LARGEST_BODY as usize + 1), 413),
        ] {
            server
                .send(&call, json, text.to_owned(), &[status], &mut wrong)
                .await;
        }
        let sample = described.sample().to_string();
        for media_type in [
            "text/plain",
            "multipart/form-data; boundary=x",
            "",
            "application/jsonx",
        ] {
            server
                .send(&call, media_type, sample.clone(), &[415], &mut wrong)
                .await;
        }
        for (body, is_wrong) in described.variants() {
            let expected: &[u16] = match is_wrong {
                true => &[400, 404, 409, 412, 422],
                false => &[],
            };
            server
                .send(&call, json, body.to_string(), expected, &mut wrong)
                .await;
            sent += 1;
        }
        let unknown = json!({ "surprise": { "of": ["any", 1] }, "": null });
        server
            .send(&call, json, unknown.to_string(), &[], &mut wrong)
            .await;
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(sent > 500, "{sent}");
}
