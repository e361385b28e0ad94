//! The alternatives, each with as much of the gateway's work as its configuration can express.

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::peers::{Proxy, Site, free_port, installed, start};
use super::rungs;

/// What the alternatives know of the token.
pub(crate) struct Tokens {
    pub(crate) issuer: String,
    pub(crate) audience: String,
    /// The issuer's keys, as it publishes them.
    pub(crate) keys: Value,
    /// A scope that the token must carry.
    pub(crate) scope: &'static str,
}

type Start = fn(&Site, &Tokens) -> anyhow::Result<Proxy>;

pub(crate) const GATEWAY: &str = "fhirwall";
pub(crate) const NJS: &str = "nginx, njs removes";
pub(crate) const ENVOY: &str = "Envoy, JWT RBAC limit";
pub(crate) const ENVOY_LUA: &str = "Envoy, Lua removes";

/// Name, what it does, and how it is started. All speak TLS 1.3 with client certificates in front, and TLS with a client
/// certificate behind.
pub(crate) const ALL: [(&str, &str, Start); 7] = [
    ("nginx", "mTLS, request limit", |site, _| rungs::nginx_with(site, LIMIT, None)),
    ("HAProxy", "mTLS, JWT (RS256), scope, request limit", haproxy),
    (ENVOY, "mTLS, JWT (RS256), RBAC by scope, local limit", |site, tokens| envoy(site, tokens, false, None)),
    ("Envoy, token cache", "the same with its cache of verified tokens", |site, tokens| {
        envoy(site, tokens, true, None)
    }),
    (NJS, "mTLS, request limit, labelled entries and elements removed by a script", |site, _| {
        let script = site.path("remove.js");
        std::fs::write(&script, include_str!("scripts/remove.js"))?;
        rungs::nginx_with(site, LIMIT, Some(&script))
    }),
    (ENVOY_LUA, "mTLS, JWT with token cache, RBAC, limit, the same removed by a script", |site, tokens| {
        envoy(site, tokens, true, Some(include_str!("scripts/remove.lua")))
    }),
    (GATEWAY, "mTLS, JWT, scopes, Cedar, consents, limits, labels and codes, durable audit", |site, _| {
        rungs::journey(site)
    }),
];

/// nginx's limit by client certificate, far above what is asked.
const LIMIT: (&str, &str) = (
    "limit_req_zone $ssl_client_s_dn zone=partner:1m rate=1000000r/s;",
    "limit_req zone=partner burst=100000 nodelay;",
);

fn haproxy(site: &Site, tokens: &Tokens) -> anyhow::Result<Proxy> {
    let key = site.path("issuer.pem");
    std::fs::write(&key, rsa_key(&tokens.keys)?)?;
    let rules = format!(
        "  stick-table type string len 64 size 10k expire 60s store http_req_rate(1s)\n  \
           http-request set-var(txn.token) http_auth_bearer\n  \
           http-request set-var(txn.alg) var(txn.token),jwt_header_query('$.alg')\n  \
           http-request set-var(txn.expires) var(txn.token),jwt_payload_query('$.exp','int')\n  \
           http-request set-var(txn.now) date()\n  \
           http-request set-var(txn.scope) var(txn.token),jwt_payload_query('$.scope')\n  \
           http-request deny deny_status 401 unless {{ var(txn.alg) -m str RS256 }}\n  \
           http-request deny deny_status 401 unless {{ var(txn.token),jwt_verify(txn.alg,\"{key}\") 1 }}\n  \
           http-request deny deny_status 401 unless {{ var(txn.token),jwt_payload_query('$.iss') -m str {issuer} }}\n  \
           http-request deny deny_status 401 unless {{ var(txn.token),jwt_payload_query('$.aud') -m sub {audience} }}\n  \
           http-request deny deny_status 401 if {{ var(txn.expires),sub(txn.now) -m int lt 0 }}\n  \
           http-request deny deny_status 403 unless {{ var(txn.scope) -m sub {scope} }}\n  \
           http-request track-sc0 var(txn.token),jwt_payload_query('$.client_id')\n  \
           http-request deny deny_status 429 if {{ sc_http_req_rate(0) gt 1000000 }}\n",
        issuer = tokens.issuer,
        audience = tokens.audience,
        scope = tokens.scope,
    );
    rungs::haproxy_with(site, &rules)
}

/// The issuer's RSA key as PEM (RFC 8017 A.1.1 in RFC 5280's SubjectPublicKeyInfo).
fn rsa_key(keys: &Value) -> anyhow::Result<String> {
    const RSA_ENCRYPTION: [u8; 15] =
        [0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
    let all = keys.get("keys").and_then(Value::as_array).context("no keys")?;
    let key = all.iter().find(|key| key["kty"] == "RSA").context("the issuer has no RSA key")?;
    let number = |name: &str| -> anyhow::Result<Vec<u8>> {
        let text = key.get(name).and_then(Value::as_str).context("no number")?;
        // A leading zero keeps it positive.
        Ok(der(0x02, &[vec![0], URL_SAFE_NO_PAD.decode(text)?].concat()))
    };
    let numbers =
        der(0x30, &[number("n")?, der(0x02, &URL_SAFE_NO_PAD.decode(key["e"].as_str().context("no e")?)?)].concat());
    let bits = der(0x03, &[vec![0], numbers].concat());
    let text = STANDARD.encode(der(0x30, &[RSA_ENCRYPTION.to_vec(), bits].concat()));
    let mut pem = String::from("-----BEGIN PUBLIC KEY-----\n");
    for (at, letter) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(letter);
    }
    Ok(pem + "\n-----END PUBLIC KEY-----\n")
}

fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short), _) if short < 0x80 => out.push(short),
        (Ok(byte), _) => out.extend([0x81, byte]),
        (_, Ok(word)) => {
            out.push(0x82);
            out.extend(word.to_be_bytes());
        }
        (_, Err(_)) => {}
    }
    out.extend_from_slice(content);
    out
}

fn envoy(site: &Site, tokens: &Tokens, cache: bool, script: Option<&str>) -> anyhow::Result<Proxy> {
    let address = free_port()?;
    let mut filters = vec![jwt_filter(tokens, cache), scope_filter(tokens), limit_filter()];
    if let Some(script) = script {
        let lua = json!({"default_source_code": {"inline_string": script}});
        filters.push(extension("envoy.filters.http.lua", "filters.http.lua.v3.Lua", lua));
    }
    filters.push(extension("envoy.filters.http.router", "filters.http.router.v3.Router", json!({})));
    let manager = json!({
        "stat_prefix": "in",
        "codec_type": "HTTP1",
        "http_filters": filters,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{
            "match": {"prefix": "/"},
            "route": {"cluster": "ehr"},
            "request_headers_to_add": [{
                "header": {"key": "accept-encoding", "value": "identity"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }],
        }]}]},
    });
    let name = "filters.network.http_connection_manager.v3.HttpConnectionManager";
    let listener = json!({
        "name": "in",
        "address": socket(&address.to_string())?,
        "per_connection_buffer_limit_bytes": 32 << 20,
        "filter_chains": [{
            "filters": [extension("envoy.filters.network.http_connection_manager", name, manager)],
            "transport_socket": tls(site, "DownstreamTlsContext", ("gateway", "tls/partners/ca.pem"), &json!({
                "require_client_certificate": true, "disable_stateless_session_resumption": true,
            })),
        }],
    });
    let cluster = json!({
        "name": "ehr",
        "type": "STATIC",
        "connect_timeout": "5s",
        "per_connection_buffer_limit_bytes": 32 << 20,
        "load_assignment": {"cluster_name": "ehr", "endpoints": [{"lb_endpoints": [{
            "endpoint": {"address": socket(&site.ehr)?},
        }]}]},
        "transport_socket": tls(site, "UpstreamTlsContext", ("gateway-client", "tls/site/ca.pem"), &json!({})),
    });
    let config = json!({"static_resources": {"listeners": [listener], "clusters": [cluster]}});
    let file = site.path(if script.is_some() { "envoy-lua.json" } else { "envoy.json" });
    std::fs::write(&file, config.to_string())?;
    let program = match std::env::var_os("FHIRWALL_ENVOY") {
        Some(program) => program.into(),
        None => installed("envoy").context("or name it in FHIRWALL_ENVOY")?,
    };
    start(&program, &["-c", &file, "--concurrency", "1", "--disable-hot-restart", "-l", "error"], address)
}

fn extension(name: &str, kind: &str, mut config: Value) -> Value {
    config["@type"] = Value::from(format!("type.googleapis.com/envoy.extensions.{kind}"));
    json!({"name": name, "typed_config": config})
}

fn socket(address: &str) -> anyhow::Result<Value> {
    let (host, port) = address.split_once(':').context("no port")?;
    Ok(json!({"socket_address": {"address": host, "port_value": port.parse::<u16>()?}}))
}

fn tls(site: &Site, context: &str, (own, authority): (&str, &str), more: &Value) -> Value {
    let mut config = json!({"common_tls_context": {
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{
            "certificate_chain": {"filename": site.path(&format!("tls/site/{own}.pem"))},
            "private_key": {"filename": site.path(&format!("tls/site/{own}.key"))},
        }],
        "validation_context": {"trusted_ca": {"filename": site.path(authority)}},
    }});
    for (name, value) in more.as_object().into_iter().flatten() {
        config[name] = value.clone();
    }
    extension("envoy.transport_sockets.tls", &format!("transport_sockets.tls.v3.{context}"), config)
}

fn jwt_filter(tokens: &Tokens, cache: bool) -> Value {
    let mut provider = json!({
        "issuer": tokens.issuer,
        "audiences": [tokens.audience],
        "local_jwks": {"inline_string": tokens.keys.to_string()},
        "payload_in_metadata": "token",
    });
    if cache {
        provider["jwt_cache_config"] = json!({"jwt_cache_size": 1000, "jwt_max_token_size": 8192});
    }
    let config = json!({
        "providers": {"issuer": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "issuer"}}],
    });
    extension("envoy.filters.http.jwt_authn", "filters.http.jwt_authn.v3.JwtAuthentication", config)
}

fn scope_filter(tokens: &Tokens) -> Value {
    let scope = json!({"metadata": {
        "filter": "envoy.filters.http.jwt_authn",
        "path": [{"key": "token"}, {"key": "scope"}],
        "value": {"string_match": {"contains": tokens.scope}},
    }});
    let policies = json!({"scope": {"permissions": [{"any": true}], "principals": [scope]}});
    let config = json!({"rules": {"action": "ALLOW", "policies": policies}});
    extension("envoy.filters.http.rbac", "filters.http.rbac.v3.RBAC", config)
}

fn limit_filter() -> Value {
    let all = json!({"default_value": {"numerator": 100, "denominator": "HUNDRED"}});
    let config = json!({
        "stat_prefix": "limit",
        "token_bucket": {"max_tokens": 1_000_000_000, "tokens_per_fill": 1_000_000_000, "fill_interval": "1s"},
        "filter_enabled": all,
        "filter_enforced": all,
    });
    extension("envoy.filters.http.local_ratelimit", "filters.http.local_ratelimit.v3.LocalRateLimit", config)
}
