//! The standard gRPC health service, so that probes of any orchestrator and `grpc_health_probe` work unchanged.

use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::server::{HealthReporter, health_reporter};

/// A health service that says SERVING for the process and for each named service, and the handle that changes it.
pub async fn health(services: &[&str]) -> (HealthReporter, HealthServer<impl Health>) {
    let (reporter, server) = health_reporter();
    for service in services.iter().chain(&[""]) {
        reporter
            .set_service_status(*service, ServingStatus::Serving)
            .await;
    }
    (reporter, server)
}
