//! What goes between a watch and its server: requests out, answers in.

/// Names a request of one watch. Never used twice by the same watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Get,
    Post,
}

impl Method {
    pub fn as_str(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
        }
    }
}

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The settings, at the start of the app and at times later.
    Settings,
    /// One health record, as it is measured.
    Health,
    /// Health records that wait in the ring, every 120 s.
    HealthBatch,
    Device,
    DeviceReplay,
    Event,
    /// One event that waits in the ring, every 120 s.
    EventReplay,
    /// Asks for messages.
    Poll,
    /// Says that a message was shown.
    Reply,
}

/// A request that a watch wants to have sent now.
#[derive(Debug, Clone)]
pub struct Request {
    pub id: RequestId,
    pub purpose: Purpose,
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// The text of the header `Authorization`, if the settings had one.
    pub authorization: Option<String>,
    /// JSON. `None` for GET.
    pub body: Option<String>,
    /// How long the watch waits for a connection, and then for the answer, in milliseconds.
    pub timeout_ms: i64,
    /// Items that the body holds, as indices into [`crate::Record::items`].
    pub items: Vec<usize>,
}

impl Request {
    /// The request as bytes, with the headers that a watch sends.
    pub fn to_http(&self, host: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: {host}\r\n", self.method.as_str(), self.target);
        if self.purpose != Purpose::Settings {
            head.push_str("Accept: application/json\r\n");
        }
        if let Some(body) = &self.body {
            if let Some(text) = &self.authorization {
                head.push_str(&format!("Authorization: {text}\r\n"));
            }
            let length = body.len();
            head.push_str(&format!(
                "Content-Type: application/json; charset=UTF-8\r\nContent-Length: {length}\r\n"
            ));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body.as_deref().unwrap_or_default().as_bytes());
        bytes
    }
}

/// How a request ended for the watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Status {
        status: u16,
        body: Vec<u8>,
    },
    /// No connection, a broken one, or no answer within [`Request::timeout_ms`]. The server may have
    /// taken the request in all the same.
    Failed,
}

impl Answer {
    /// An answer without a body.
    pub fn status(status: u16) -> Self {
        Answer::Status { status, body: Vec::new() }
    }

    /// What the watch takes for success: 200 and nothing else.
    pub fn is_ok(&self) -> bool {
        matches!(self, Answer::Status { status: 200, .. })
    }
}
