//! What redaction costs beside what else could do it: `cargo bench -p fhirwall-redaction-bench`.
