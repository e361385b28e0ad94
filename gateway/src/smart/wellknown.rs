//! What clients may discover: SMART configuration, OpenID metadata, protected resource metadata.

use serde_json::{Map, Value, json};

use super::clients::ASSERTION_ALGORITHMS;

/// Which authorization server a FHIR endpoint's clients go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthorizationServer {
    /// Ours, at `{base_url}/auth` (front and broker mode).
    Ours { openid: bool, client_credentials: bool, launch_ehr: bool, scopes: Vec<String> },
    /// The issuer's own (resource mode), with its endpoints where they are known.
    Issuer {
        issuer: String,
        authorization_endpoint: Option<String>,
        token_endpoint: Option<String>,
        introspection_endpoint: Option<String>,
        revocation_endpoint: Option<String>,
        scopes: Vec<String>,
    },
}

/// Where the OAuth endpoints of a FHIR base are.
pub fn auth_base(base_url: &str) -> String {
    format!("{base_url}/auth")
}

/// `{base_url}/.well-known/smart-configuration` (SMART App Launch 2.2, conformance). All URLs are absolute.
pub fn smart_configuration(base_url: &str, server: &AuthorizationServer) -> Value {
    let mut document = Map::new();
    let mut capabilities = vec!["permission-patient", "permission-user", "permission-v1", "permission-v2"];
    match server {
        AuthorizationServer::Ours { openid, client_credentials, launch_ehr, scopes } => {
            let auth = auth_base(base_url);
            capabilities.extend([
                "launch-standalone",
                "authorize-post",
                "client-public",
                "client-confidential-symmetric",
                "client-confidential-asymmetric",
                "context-standalone-patient",
                "permission-offline",
                "permission-online",
            ]);
            if *launch_ehr {
                capabilities.extend(["launch-ehr", "context-ehr-patient", "context-ehr-encounter"]);
            }
            if *openid {
                capabilities.push("sso-openid-connect");
                document.insert("issuer".to_owned(), json!(auth));
                document.insert("jwks_uri".to_owned(), json!(format!("{auth}/jwks")));
            }
            for endpoint in ["authorization", "token", "introspection", "revocation"] {
                let path = match endpoint {
                    "authorization" => "authorize",
                    "introspection" => "introspect",
                    "revocation" => "revoke",
                    other => other,
                };
                document.insert(format!("{endpoint}_endpoint"), json!(format!("{auth}/{path}")));
            }
            let mut grants = vec!["authorization_code", "refresh_token"];
            if *client_credentials {
                grants.push("client_credentials");
            }
            document.insert("grant_types_supported".to_owned(), json!(grants));
            client_authentication(&mut document);
            document.insert("response_types_supported".to_owned(), json!(["code"]));
            document.insert("authorization_response_iss_parameter_supported".to_owned(), json!(true));
            document.insert("scopes_supported".to_owned(), json!(scopes));
        }
        AuthorizationServer::Issuer {
            issuer: _,
            authorization_endpoint,
            token_endpoint,
            introspection_endpoint,
            revocation_endpoint,
            scopes,
        } => {
            for (name, endpoint) in [
                ("authorization_endpoint", authorization_endpoint),
                ("token_endpoint", token_endpoint),
                ("introspection_endpoint", introspection_endpoint),
                ("revocation_endpoint", revocation_endpoint),
            ] {
                if let Some(endpoint) = endpoint {
                    document.insert(name.to_owned(), json!(endpoint));
                }
            }
            let mut grants = vec!["client_credentials"];
            if authorization_endpoint.is_some() {
                capabilities.push("launch-standalone");
                grants.insert(0, "authorization_code");
            }
            document.insert("grant_types_supported".to_owned(), json!(grants));
            document.insert("scopes_supported".to_owned(), json!(scopes));
        }
    }
    document.insert("code_challenge_methods_supported".to_owned(), json!(["S256"]));
    capabilities.sort_unstable();
    document.insert("capabilities".to_owned(), json!(capabilities));
    Value::Object(document)
}

/// `{issuer}/.well-known/openid-configuration` of our own server, for clients that verify id_tokens.
pub fn openid_configuration(base_url: &str, id_token: bool) -> Value {
    let auth = auth_base(base_url);
    let mut document = Map::new();
    for (name, path) in [
        ("authorization_endpoint", "authorize"),
        ("token_endpoint", "token"),
        ("introspection_endpoint", "introspect"),
        ("revocation_endpoint", "revoke"),
        ("jwks_uri", "jwks"),
    ] {
        document.insert(name.to_owned(), json!(format!("{auth}/{path}")));
    }
    client_authentication(&mut document);
    document.insert("response_types_supported".to_owned(), json!(["code"]));
    document.insert("subject_types_supported".to_owned(), json!(["public"]));
    document.insert("code_challenge_methods_supported".to_owned(), json!(["S256"]));
    document.insert("authorization_response_iss_parameter_supported".to_owned(), json!(true));
    if id_token {
        document.insert("id_token_signing_alg_values_supported".to_owned(), json!(["RS256"]));
    }
    document.insert("issuer".to_owned(), json!(auth));
    Value::Object(document)
}

fn client_authentication(document: &mut Map<String, Value>) {
    let methods = ["client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth", "none"];
    document.insert("token_endpoint_auth_methods_supported".to_owned(), json!(methods));
    let algorithms: Vec<&str> = ASSERTION_ALGORITHMS.iter().map(|one| one.name()).collect();
    document.insert("token_endpoint_auth_signing_alg_values_supported".to_owned(), json!(algorithms));
}

/// The URL of the RFC 9728 document: the well-known part stands between host and path (section 3.1).
///
/// `None` for a base that is no absolute URL.
pub fn protected_resource_url(base_url: &str) -> Option<String> {
    let (scheme, rest) = base_url.split_once("://")?;
    let (host, path) = rest.split_once('/').map_or((rest, String::new()), |(host, path)| (host, format!("/{path}")));
    Some(format!("{scheme}://{host}/.well-known/oauth-protected-resource{path}"))
}

/// OAuth 2.0 Protected Resource Metadata (RFC 9728 section 2).
pub fn protected_resource(base_url: &str, issuers: &[String], scopes: &[String]) -> Value {
    json!({
        "resource": base_url,
        "authorization_servers": issuers,
        "bearer_methods_supported": ["header"],
        "scopes_supported": scopes,
        "tls_client_certificate_bound_access_tokens": true,
        "dpop_signing_alg_values_supported": ["ES256", "ES384", "EdDSA", "RS256", "PS256"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "https://fhir.example.org/fhir";

    fn ours() -> AuthorizationServer {
        AuthorizationServer::Ours {
            openid: true,
            client_credentials: true,
            launch_ehr: false,
            scopes: vec!["openid".to_owned(), "patient/*.rs".to_owned()],
        }
    }

    #[test]
    fn our_own_document_has_what_smart_requires_and_absolute_urls() {
        let document = smart_configuration(BASE, &ours());
        for name in ["issuer", "jwks_uri", "authorization_endpoint", "token_endpoint", "introspection_endpoint"] {
            assert!(document[name].as_str().unwrap().starts_with("https://fhir.example.org/fhir/auth"), "{name}");
        }
        assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
        assert!(document["grant_types_supported"].as_array().unwrap().contains(&json!("authorization_code")));
        assert!(document["capabilities"].as_array().unwrap().contains(&json!("sso-openid-connect")));
        assert!(!document["capabilities"].as_array().unwrap().contains(&json!("launch-ehr")));
        let algorithms = document["token_endpoint_auth_signing_alg_values_supported"].as_array().unwrap();
        assert!(algorithms.contains(&json!("RS384")) && algorithms.contains(&json!("ES384")));
    }

    #[test]
    fn an_issuer_and_its_keys_are_named_only_with_sign_on() {
        let mut server = ours();
        if let AuthorizationServer::Ours { openid, .. } = &mut server {
            *openid = false;
        }
        let document = smart_configuration(BASE, &server);
        assert!(document.get("issuer").is_none());
        assert!(!document["capabilities"].as_array().unwrap().contains(&json!("sso-openid-connect")));
    }

    #[test]
    fn in_resource_mode_the_issuer_s_endpoints_are_named() {
        let document = smart_configuration(
            BASE,
            &AuthorizationServer::Issuer {
                issuer: "https://idp".to_owned(),
                authorization_endpoint: Some("https://idp/authorize".to_owned()),
                token_endpoint: Some("https://idp/token".to_owned()),
                introspection_endpoint: None,
                revocation_endpoint: None,
                scopes: Vec::new(),
            },
        );
        assert_eq!(document["authorization_endpoint"], "https://idp/authorize");
        assert_eq!(document["token_endpoint"], "https://idp/token");
        assert_eq!(document["code_challenge_methods_supported"], json!(["S256"]));
    }

    #[test]
    fn the_resource_document_stands_between_host_and_path() {
        assert_eq!(
            protected_resource_url(BASE).as_deref(),
            Some("https://fhir.example.org/.well-known/oauth-protected-resource/fhir")
        );
        assert_eq!(
            protected_resource_url("https://h:8443").as_deref(),
            Some("https://h:8443/.well-known/oauth-protected-resource")
        );
        assert_eq!(protected_resource(BASE, &["https://idp".to_owned()], &[])["resource"], BASE);
    }
}
