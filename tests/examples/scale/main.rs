//! What more of something costs: partners, policies, users, entries of a Bundle, connections, replicas. Run by
//! `.ci/parts/scale`: `scale GATEWAY [MOST [CURVE...]]`, where GATEWAY is the `fhirwall` binary (a release build), MOST bounds each curve, and the curves
//! are all unless named.
//!
//! The gateway is a process of its own: memory and CPU are its own, from `/proc`. The EHR, the issuer and the client are in
//! this process and count for nothing. Each CPU figure is the median of three rounds of one request asked many times, eight at once, over HTTP/2 and
//! TLS with a client certificate, with a durable record before each answer.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a measurement prints its numbers and stops at the first surprise"
)]

mod curves;
mod gateway;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(binary) = arguments.next() else { panic!("scale GATEWAY [MOST [CURVE...]]") };
    let most = arguments.next().map_or(usize::MAX, |most| most.parse().unwrap());
    let named: Vec<String> = arguments.collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|one| one == name);
    if wanted("partners") {
        curves::partners(&binary, most).await;
    }
    if wanted("policies") {
        curves::policies(&binary, most).await;
    }
    if wanted("users") {
        curves::tokens(&binary, most).await;
    }
    if wanted("entries") {
        curves::entries(&binary, most).await;
    }
    if wanted("connections") {
        curves::connections(&binary, most).await;
    }
    if wanted("replicas") {
        curves::replicas(&binary, most).await;
    }
}
