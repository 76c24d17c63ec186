//! A description of the API for programs that make or check clients: OpenAPI, at
//! `/api/openapi.json`.
//!
//! [`calls`] lists the calls, the other modules what they answer. A test holds them against the
//! server: its routes, and what its handlers really answer.

mod answers;
#[cfg(test)]
mod bodies;
mod calls;
mod own;
mod runs;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{Method, header};
use utoipa::ToSchema;
use utoipa::openapi::path::{
    HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathsBuilder,
};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::ArrayBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder,
    PathItem, Ref, RefOr, Required, ResponseBuilder, Schema, SecurityRequirement, Type,
};

use crate::App;

const PATH: &str = "/api/openapi.json";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route(PATH, get(answer))
}

async fn answer() -> Response {
    let media_type = [(header::CONTENT_TYPE, "application/json")];
    match document().to_pretty_json() {
        Ok(text) => (media_type, text).into_response(),
        Err(error) => crate::answer::Refusal::internal("describe the API", &error).into_response(),
    }
}

/// One call of the API.
struct Call {
    method: Method,
    /// As the router has it, from `/go` on.
    path: &'static str,
    /// The newest version, if it has versions.
    version: Option<u32>,
    summary: &'static str,
    takes: Takes,
    status: u16,
    answers: Answers,
}

/// The body of a request.
enum Takes {
    /// None; a write must be confirmed by a header then.
    Nothing,
    Json(Shape),
    /// JSON or none.
    MaybeJson(Shape),
    Files,
    Bytes,
}

/// The body of an answer.
enum Answers {
    Nothing,
    Json(Shape),
    List(Shape),
    /// One of several shapes, or one that says nothing about itself.
    AnyJson,
    Text(&'static str),
}

/// A type that describes JSON.
struct Shape {
    name: String,
    schema: RefOr<Schema>,
    /// Those it refers to.
    others: Vec<(String, RefOr<Schema>)>,
}

fn shape<T: ToSchema>() -> Shape {
    let mut others = Vec::new();
    T::schemas(&mut others);
    Shape {
        name: T::name().into_owned(),
        schema: T::schema(),
        others,
    }
}

impl Call {
    fn new(method: Method, path: &'static str, version: u32, summary: &'static str) -> Self {
        Self {
            method,
            path,
            version: (version > 0).then_some(version),
            summary,
            takes: Takes::Nothing,
            status: 200,
            answers: Answers::Json(shape::<answers::Message>()),
        }
    }

    fn takes<T: ToSchema>(mut self) -> Self {
        self.takes = Takes::Json(shape::<T>());
        self
    }

    fn may_take<T: ToSchema>(mut self) -> Self {
        self.takes = Takes::MaybeJson(shape::<T>());
        self
    }

    fn takes_files(mut self) -> Self {
        self.takes = Takes::Files;
        self
    }

    fn takes_bytes(mut self) -> Self {
        self.takes = Takes::Bytes;
        self
    }

    fn answers<T: ToSchema>(mut self) -> Self {
        self.answers = Answers::Json(shape::<T>());
        self
    }

    fn answers_list<T: ToSchema>(mut self) -> Self {
        self.answers = Answers::List(shape::<T>());
        self
    }

    fn answers_any(mut self) -> Self {
        self.answers = Answers::AnyJson;
        self
    }

    fn answers_text(mut self, media_type: &'static str) -> Self {
        self.answers = Answers::Text(media_type);
        self
    }

    fn answers_nothing(mut self) -> Self {
        self.answers = Answers::Nothing;
        self
    }

    fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The path as OpenAPI writes it.
    fn described_path(&self) -> String {
        self.path.replace("{*", "{")
    }

    fn media_type(&self) -> String {
        match self.version {
            Some(version) => format!("application/vnd.go.cd.v{version}+json"),
            None => "application/json".to_owned(),
        }
    }

    fn operation(&self) -> OperationBuilder {
        let tag = self.path.trim_start_matches("/go/api/");
        let tag = tag.trim_start_matches("admin/").trim_start_matches("/go/");
        let tag = tag.split(['/', '.']).next().unwrap_or_default();
        let mut operation = OperationBuilder::new()
            .tag(tag)
            .summary(Some(self.summary))
            .operation_id(Some(format!(
                "{} {}",
                self.method.as_str().to_lowercase(),
                self.described_path()
            )));
        for part in self.path.split(['{', '}']).skip(1).step_by(2) {
            let parameter = ParameterBuilder::new()
                .name(part.trim_start_matches('*'))
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
            operation = operation.parameter(parameter);
        }
        let any = || ContentBuilder::new().build();
        let json = |shape: &Shape| {
            let schema = Ref::from_schema_name(&shape.name);
            ContentBuilder::new().schema(Some(schema)).build()
        };
        let body = match &self.takes {
            Takes::Nothing => None,
            Takes::Json(shape) => Some(("application/json", json(shape), Required::True)),
            Takes::MaybeJson(shape) => Some(("application/json", json(shape), Required::False)),
            Takes::Files => Some(("multipart/form-data", any(), Required::True)),
            Takes::Bytes => Some(("application/octet-stream", any(), Required::True)),
        };
        if let Some((media_type, content, required)) = body {
            let body = RequestBodyBuilder::new()
                .content(media_type, content)
                .required(Some(required));
            operation = operation.request_body(Some(body.build()));
        }
        let unconfirmed = matches!(self.takes, Takes::Nothing | Takes::MaybeJson(_))
            && !matches!(self.method, Method::GET | Method::DELETE);
        if unconfirmed {
            let header = ParameterBuilder::new()
                .name("X-GoCD-Confirm")
                .parameter_in(ParameterIn::Header)
                .required(Required::False)
                .description(Some("Must be there when there is no body."))
                .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
            operation = operation.parameter(header);
        }
        let response = ResponseBuilder::new().description(self.summary);
        let response = match &self.answers {
            Answers::Nothing => response,
            Answers::Json(shape) => response.content(self.media_type(), json(shape)),
            Answers::List(shape) => {
                let items = ArrayBuilder::new().items(Ref::from_schema_name(&shape.name));
                let list = ContentBuilder::new().schema(Some(items)).build();
                response.content(self.media_type(), list)
            }
            Answers::AnyJson => response.content(self.media_type(), any()),
            Answers::Text(media_type) => response.content(*media_type, any()),
        };
        let refusal = Ref::from_schema_name("Message");
        let refusal = ContentBuilder::new().schema(Some(refusal)).build();
        let refused = ResponseBuilder::new()
            .description("It was refused; the message says why.")
            .content("application/json", refusal);
        operation
            .response(self.status.to_string(), response.build())
            .response("default", refused.build())
    }
}

/// The description.
pub(super) fn document() -> OpenApi {
    let mut paths = PathsBuilder::new();
    let mut components = ComponentsBuilder::new()
        .security_scheme("basic", scheme(HttpAuthScheme::Basic))
        .security_scheme("token", scheme(HttpAuthScheme::Bearer));
    for call in calls::all() {
        let method = match call.method {
            Method::POST => HttpMethod::Post,
            Method::PUT => HttpMethod::Put,
            Method::PATCH => HttpMethod::Patch,
            Method::DELETE => HttpMethod::Delete,
            _ => HttpMethod::Get,
        };
        let item = PathItem::new(method, call.operation());
        paths = paths.path(call.described_path(), item);
        let taken = match call.takes {
            Takes::Json(shape) | Takes::MaybeJson(shape) => Some(shape),
            Takes::Nothing | Takes::Files | Takes::Bytes => None,
        };
        let answered = match call.answers {
            Answers::Json(shape) | Answers::List(shape) => Some(shape),
            Answers::Nothing | Answers::AnyJson | Answers::Text(_) => None,
        };
        for shape in taken.into_iter().chain(answered) {
            components = components
                .schemas_from_iter(shape.others)
                .schema(shape.name, shape.schema);
        }
    }
    let any_login = [
        SecurityRequirement::new("basic", [""; 0]),
        SecurityRequirement::new("token", [""; 0]),
    ];
    let info = InfoBuilder::new()
        .title("Journeyman")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "A GoCD server's API. A version that is asked for by `Accept` may be older than the one \
             described here; none, `*/*` and `application/json` are answered with it.",
        ));
    OpenApiBuilder::new()
        .info(info.build())
        .paths(paths.build())
        .components(Some(components.build()))
        .security(Some(any_login))
        .build()
}

fn scheme(scheme: HttpAuthScheme) -> SecurityScheme {
    SecurityScheme::Http(HttpBuilder::new().scheme(scheme).build())
}
