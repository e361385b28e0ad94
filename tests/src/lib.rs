//! What is tested across crates: the journey over real TLS, the standards, and the rules of the house.
