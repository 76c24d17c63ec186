//! An agent as the server sees one: headers, forms and documents.

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::server::{Answer, KEY, Server, answer};

/// An agent that has its token.
pub(crate) struct Agent<'a> {
    pub(crate) server: &'a Server,
    pub(crate) uuid: String,
    pub(crate) token: String,
    pub(crate) cookie: Option<String>,
}

/// The form of a registration.
pub(crate) type Form = Vec<(&'static str, String)>;

impl<'a> Agent<'a> {
    /// An agent that has asked for a token and has not registered.
    pub(crate) async fn with_token(server: &'a Server) -> Self {
        let uuid = uuid::Uuid::new_v4().to_string();
        let token = answer(server.get(&format!("/admin/agent/token?uuid={uuid}"))).await;
        assert_eq!(token.status, 200, "{token:?}");
        Self {
            server,
            uuid,
            token: token.text,
            cookie: None,
        }
    }

    /// An agent that may work and has a cookie.
    pub(crate) async fn registered(server: &'a Server) -> Self {
        let mut agent = Self::with_token(server).await;
        let answer = agent.register(&agent.form(KEY)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        agent.new_cookie().await;
        agent
    }

    /// The twelve fields.
    pub(crate) fn form(&self, key: &str) -> Form {
        vec![
            ("hostname", "build-07".to_owned()),
            ("uuid", self.uuid.clone()),
            ("location", "/srv/agent".to_owned()),
            ("usablespace", "52428800000".to_owned()),
            ("operatingSystem", "Debian GNU/Linux 12".to_owned()),
            ("agentAutoRegisterKey", key.to_owned()),
            ("agentAutoRegisterResources", String::new()),
            ("agentAutoRegisterEnvironments", String::new()),
            ("agentAutoRegisterHostname", String::new()),
            ("elasticAgentId", String::new()),
            ("elasticPluginId", String::new()),
            ("token", self.token.clone()),
        ]
    }

    pub(crate) async fn register(&self, form: &Form) -> Answer {
        answer(self.server.post("/admin/agent").form(form)).await
    }

    pub(crate) async fn new_cookie(&mut self) {
        let cookie = self.call("get_cookie", json!({})).await;
        assert_eq!(cookie.status, 200, "{cookie:?}");
        self.cookie = Some(cookie.text);
    }

    /// The runtime info; of a busy agent it names the job of the pipeline's first run.
    pub(crate) fn info(&self, status: &str) -> Value {
        let locator = match status {
            "Idle" => "",
            _ => "web/1/build/1/unit",
        };
        let mut info = json!({
            "type": "AgentRuntimeInfo",
            "identifier": { "hostName": "build-07", "ipAddress": "127.0.0.1", "uuid": self.uuid },
            "runtimeStatus": status,
            "buildingInfo": { "buildingInfo": locator, "buildLocator": locator },
            "location": "/srv/agent",
            "usableSpace": 52_428_800_000_u64,
            "operatingSystemName": "Debian GNU/Linux 12",
            "agentBootstrapperVersion": "26.2.0-22000",
            "agentVersion": "26.2.0-22000",
        });
        if let Some(cookie) = &self.cookie {
            info["cookie"] = json!(cookie);
        }
        info
    }

    /// A request with the agent's two headers.
    pub(crate) fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        request
            .header("X-Agent-GUID", &self.uuid)
            .header("Authorization", &self.token)
    }

    /// A remoting request without a body.
    pub(crate) fn request(&self, action: &str) -> RequestBuilder {
        let path = format!("/remoting/api/agent/{action}");
        self.signed(self.server.post(&path))
            .header("Accept", "application/vnd.go.cd+json")
            .header("Content-Type", "application/json; charset=UTF-8")
    }

    /// What a remoting call answers; the runtime info is an idle agent's if none is given.
    pub(crate) async fn call(&self, action: &str, body: Value) -> Answer {
        answer(self.request(action).body(self.body(action, body))).await
    }

    /// The document of a call.
    pub(crate) fn body(&self, action: &str, mut body: Value) -> String {
        let kind = match action {
            "get_cookie" => "GetCookieRequest",
            "ping" => "PingRequest",
            "get_work" => "GetWorkRequest",
            "report_current_status" => "ReportCurrentStatusRequest",
            "is_ignored" => "IsIgnoredRequest",
            _ => "ReportCompleteStatusRequest",
        };
        body["type"] = json!(kind);
        if body["agentRuntimeInfo"].is_null() {
            body["agentRuntimeInfo"] = self.info("Idle");
        }
        body.to_string()
    }

    pub(crate) async fn ping(&self, status: &str) -> String {
        let body = json!({ "agentRuntimeInfo": self.info(status) });
        let answer = self.call("ping", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.text
    }

    /// Asks for work once.
    pub(crate) async fn work(&self) -> Value {
        let answer = self.call("get_work", json!({})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    }

    /// Gets the job that was just triggered; returns its identifier.
    pub(crate) async fn job(&self) -> Value {
        let body = self.body("get_work", json!({}));
        let request = self.request("get_work").header("Prefer", "wait=20");
        let work = answer(request.body(body)).await.json();
        assert_eq!(work["type"], "BuildWork", "{work}");
        work["assignment"]["jobIdentifier"].clone()
    }

    pub(crate) async fn report_state(&self, job: &Value, state: &str) -> Answer {
        let body = json!({ "agentRuntimeInfo": self.info("Building"), "jobIdentifier": job, "jobState": state });
        self.call("report_current_status", body).await
    }

    /// `action` is `report_completing` or `report_completed`.
    pub(crate) async fn report_result(&self, action: &str, job: &Value, result: &str) -> Answer {
        let body = json!({ "agentRuntimeInfo": self.info("Building"), "jobIdentifier": job, "jobResult": result });
        self.call(action, body).await
    }

    pub(crate) async fn is_ignored(&self, job: &Value) -> String {
        self.call("is_ignored", json!({ "jobIdentifier": job }))
            .await
            .text
    }
}
