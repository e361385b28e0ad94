//! Who is on the other end of a connection. No network here: bytes in, verdicts out.

pub mod peer;
