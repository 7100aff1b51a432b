//! Spans to an OpenTelemetry collector, as OTLP over HTTP with protobuf bodies.

use std::time::Duration;

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};

/// A collector that does not answer within this has missed a batch.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Hands spans on from a thread of its own; what does not fit into its queue is dropped.
pub struct Export {
    provider: SdkTracerProvider,
}

impl Export {
    /// To a collector at `http://HOST:PORT`. It need not run yet.
    pub fn to(endpoint: &str) -> Result<Self, String> {
        let fault = |message: String| format!("telemetry.otlp_endpoint: {message}");
        if !endpoint.starts_with("http://") {
            return Err(fault(format!("{endpoint:?} must begin with http://")));
        }
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            .http_status_as_error(false)
            .build()
            .new_agent();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client(agent))
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .build()
            .map_err(|err| fault(err.to_string()))?;
        let resource = Resource::builder().with_service_name("watchpost").build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Self { provider })
    }

    pub fn tracer(&self) -> Tracer {
        self.provider.tracer("watchpost")
    }
}

impl Drop for Export {
    /// Sends what is left.
    fn drop(&mut self) {
        if let Err(err) = self.provider.shutdown() {
            eprintln!("watchpost: the last spans were not exported: {err}");
        }
    }
}

/// Blocks, on the thread of the exporter.
#[derive(Debug)]
struct Client(ureq::Agent);

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (parts, body) = request.into_parts();
        let response = self.0.run(Request::from_parts(parts, body.to_vec()))?;
        let (parts, mut body) = response.into_parts();
        Ok(Response::from_parts(parts, body.read_to_vec()?.into()))
    }
}
