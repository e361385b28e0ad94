//! A ClientHello that offers one thing, and whether a server takes it (RFC 8446 section 4.1, RFC 5246 section 7.4.1).

/// What is offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    Tls10,
    Tls11,
    Tls13,
    /// TLS 1.2 with ciphers that nobody should take.
    WeakCiphers,
}

impl Offer {
    /// `client_version`, by which the server's choice is known up to 1.2.
    const fn version(self) -> [u8; 2] {
        match self {
            Self::Tls10 => [3, 1],
            Self::Tls11 => [3, 2],
            Self::Tls13 | Self::WeakCiphers => [3, 3],
        }
    }

    /// By their numbers in the IANA registry "TLS Cipher Suites".
    const fn ciphers(self) -> &'static [u16] {
        match self {
            // ECDHE and RSA with AES-CBC, then 3DES and RC4: whatever an old server would take.
            Self::Tls10 | Self::Tls11 => {
                &[0xc009, 0xc00a, 0xc013, 0xc014, 0x002f, 0x0035, 0x0033, 0x0039, 0x000a, 0x0005]
            }
            Self::Tls13 => &[0x1301, 0x1302, 0x1303],
            // RC4, 3DES, NULL, export, anonymous; and RSA key exchange, which keeps no secret once the key is lost.
            Self::WeakCiphers => &[
                0x0005, 0x0004, 0xc011, 0xc007, 0x000a, 0xc012, 0xc008, 0x0016, 0x0001, 0x0002, 0x003b, 0xc010, 0xc006,
                0x0003, 0x0008, 0x0018, 0x0034, 0x002f, 0x0035, 0x003c, 0x003d, 0x009c, 0x009d,
            ],
        }
    }
}

/// The record that begins the handshake.
pub(super) fn hello(offer: Offer, host: &str, random: &[u8; 32]) -> Vec<u8> {
    let mut body = offer.version().to_vec();
    body.extend_from_slice(random);
    body.push(0); // no session to resume
    let ciphers: Vec<u8> = offer.ciphers().iter().flat_map(|cipher| cipher.to_be_bytes()).collect();
    body.extend(prefixed_u16(&ciphers));
    body.extend_from_slice(&[1, 0]); // no compression
    body.extend(prefixed_u16(&extensions(offer, host)));
    let mut message = vec![1]; // client_hello
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    message.extend(length.iter().skip(1));
    message.extend(body);
    let mut record = vec![22, 3, 1]; // handshake
    record.extend(prefixed_u16(&message));
    record
}

fn extensions(offer: Offer, host: &str) -> Vec<u8> {
    let mut extensions = Vec::new();
    let mut add = |number: u16, content: &[u8]| {
        extensions.extend(number.to_be_bytes());
        extensions.extend(prefixed_u16(content));
    };
    // server_name (RFC 6066 section 3): never an address.
    if host.parse::<std::net::IpAddr>().is_err() {
        let name: Vec<u8> = std::iter::once(0).chain(prefixed_u16(host.as_bytes())).collect();
        add(0, &prefixed_u16(&name));
    }
    add(10, &prefixed_u16(&[0, 29, 0, 23, 0, 24])); // supported_groups: x25519, P-256, P-384
    add(11, &[1, 0]); // ec_point_formats: uncompressed
    add(0xff01, &[0]); // renegotiation_info: none going on
    if offer.version() == [3, 3] {
        // signature_algorithms: ECDSA, PSS, PKCS#1, and SHA-1 for the oldest
        add(13, &prefixed_u16(&[4, 3, 5, 3, 8, 4, 8, 5, 8, 6, 4, 1, 5, 1, 6, 1, 2, 1, 2, 3]));
    }
    if offer == Offer::Tls13 {
        add(43, &[2, 3, 4]); // supported_versions: 1.3 alone
        add(51, &[0, 0]); // key_share: none yet, so the server asks for one
    }
    extensions
}

fn prefixed_u16(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap_or(u16::MAX);
    length.to_be_bytes().into_iter().chain(content.iter().copied()).collect()
}

/// Did the server take the offer? `None` while too little of its answer is there.
pub(super) fn is_accepted(offer: Offer, answer: &[u8]) -> Option<bool> {
    let kind = answer.first()?;
    if *kind != 22 {
        return Some(false); // an alert, or no TLS at all
    }
    let length = usize::from(u16::from_be_bytes([*answer.get(3)?, *answer.get(4)?]));
    let message = answer.get(5..5 + length)?;
    let (Some(2), Some(version)) = (message.first(), message.get(4..6)) else { return Some(false) };
    let accepted = match offer {
        Offer::Tls13 => message.windows(6).any(|extension| extension == [0, 43, 0, 2, 3, 4]),
        Offer::Tls10 | Offer::Tls11 | Offer::WeakCiphers => version == offer.version(),
    };
    Some(accepted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ServerHello as a server of that version would send.
    fn server_hello(version: [u8; 2], extensions: &[u8]) -> Vec<u8> {
        let mut body = version.to_vec();
        body.extend([7; 32]);
        body.extend([0, 0x00, 0x2f, 0]);
        body.extend(prefixed_u16(extensions));
        let mut message = vec![2, 0, 0, u8::try_from(body.len()).unwrap()];
        message.extend(body);
        let mut record = vec![22, 3, 3];
        record.extend(prefixed_u16(&message));
        record
    }

    #[test]
    fn an_offer_is_taken_only_by_a_server_hello_of_its_version() {
        let alert = [21, 3, 3, 0, 2, 2, 70];
        let newest = [0, 43, 0, 2, 3, 4];
        for (offer, answer, accepted) in [
            (Offer::Tls10, server_hello([3, 1], &[]), true),
            (Offer::Tls10, server_hello([3, 3], &[]), false),
            (Offer::Tls11, server_hello([3, 2], &[]), true),
            (Offer::WeakCiphers, server_hello([3, 3], &[]), true),
            (Offer::WeakCiphers, server_hello([3, 1], &[]), false),
            (Offer::Tls13, server_hello([3, 3], &newest), true),
            (Offer::Tls13, server_hello([3, 3], &[]), false),
            (Offer::Tls10, alert.to_vec(), false),
            (Offer::Tls13, b"HTTP/1.1 400 Bad Request\r\n".to_vec(), false),
        ] {
            assert_eq!(is_accepted(offer, &answer), Some(accepted), "{offer:?} {answer:?}");
        }
    }

    #[test]
    fn half_an_answer_is_no_answer_yet() {
        let whole = server_hello([3, 1], &[]);
        for length in 0..whole.len() {
            assert_eq!(is_accepted(Offer::Tls10, &whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn addresses_are_not_sent_as_names() {
        let with = |host: &str| hello(Offer::Tls13, host, &[0; 32]);
        assert!(with("ehr.example.org").windows(15).any(|part| part == b"ehr.example.org"));
        assert!(!with("192.0.2.1").windows(9).any(|part| part == b"192.0.2.1"));
    }
}
