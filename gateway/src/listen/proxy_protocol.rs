//! The PROXY protocol, version 2: what a trusted load balancer says of a connection before its first byte.
//!
//! Ground: HAProxy's `proxy-protocol.txt`, section 2.2. Version 1, a line of text, is refused: it has no length and no checksum.
//! What is not exactly as the specification says refuses the connection; nothing is guessed.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Addresses and a few hundred bytes of TLVs; a longer header is no header.
const MOST: usize = 2048;

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxied {
    /// The connection of this client.
    Client(SocketAddr),
    /// The proxy's own connection: a health check.
    Own,
}

/// Why it is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoHeader;

impl From<io::Error> for NoHeader {
    fn from(_: io::Error) -> Self {
        Self
    }
}

/// Reads the header from the start of a connection, and not a byte more.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Proxied, NoHeader> {
    let mut header = vec![0; 16];
    stream.read_exact(&mut header).await?;
    let length = header.get(14..16).and_then(|two| two.try_into().ok()).map(u16::from_be_bytes).ok_or(NoHeader)?;
    if header.get(..12) != Some(&SIGNATURE) || usize::from(length) > MOST {
        return Err(NoHeader);
    }
    header.resize(16 + usize::from(length), 0);
    stream.read_exact(header.get_mut(16..).ok_or(NoHeader)?).await?;
    parse(&header)
}

fn parse(header: &[u8]) -> Result<Proxied, NoHeader> {
    let (&[version_and_command, family], rest) =
        header.get(12..).and_then(|rest| rest.split_first_chunk::<2>()).ok_or(NoHeader)?;
    let body = rest.get(2..).ok_or(NoHeader)?;
    let (proxied, tlvs) = match (version_and_command, family) {
        // LOCAL: whatever is said of addresses is to be ignored.
        (0x20, _) => return Ok(Proxied::Own),
        (0x21, 0x11) => {
            let (addresses, tlvs) = body.split_first_chunk::<12>().ok_or(NoHeader)?;
            let [a, b, c, d, _, _, _, _, high, low, _, _] = *addresses;
            (client(IpAddr::V4(Ipv4Addr::new(a, b, c, d)), high, low)?, tlvs)
        }
        (0x21, 0x21) => {
            let (source, rest) = body.split_first_chunk::<16>().ok_or(NoHeader)?;
            let (_destination, rest) = rest.split_first_chunk::<16>().ok_or(NoHeader)?;
            let (&[high, low, _, _], tlvs) = rest.split_first_chunk::<4>().ok_or(NoHeader)?;
            // `::ffff:a.b.c.d` is the same client as a.b.c.d.
            (client(Ipv6Addr::from(*source).to_canonical(), high, low)?, tlvs)
        }
        // UDP, Unix sockets, and "unspecified" under PROXY: no client that could be named.
        _ => return Err(NoHeader),
    };
    check_tlvs(header, tlvs)?;
    Ok(proxied)
}

fn client(address: IpAddr, high: u8, low: u8) -> Result<Proxied, NoHeader> {
    if address.is_unspecified() || address.is_multicast() {
        return Err(NoHeader);
    }
    Ok(Proxied::Client(SocketAddr::new(address, u16::from_be_bytes([high, low]))))
}

/// Every TLV ends where it says; a checksum, where there is one, is right (section 2.2.3).
fn check_tlvs(header: &[u8], mut tlvs: &[u8]) -> Result<(), NoHeader> {
    while !tlvs.is_empty() {
        let (&[kind, high, low], rest) = tlvs.split_first_chunk::<3>().ok_or(NoHeader)?;
        let (value, after) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low]))).ok_or(NoHeader)?;
        if kind == CHECKSUM {
            let stated = value.try_into().map(u32::from_be_bytes).map_err(|_| NoHeader)?;
            let at = header.len().saturating_sub(after.len()).saturating_sub(4);
            // It is computed with its own place holding zeros.
            let zeroed = header.iter().enumerate().map(|(i, byte)| if i >= at && i < at + 4 { 0 } else { *byte });
            if crc32c(zeroed) != stated {
                return Err(NoHeader);
            }
        }
        tlvs = after;
    }
    Ok(())
}

const CHECKSUM: u8 = 0x03;

/// CRC-32C (RFC 3720 appendix B.4), bit by bit: a header is short, and comes once a connection.
fn crc32c(bytes: impl Iterator<Item = u8>) -> u32 {
    let step = |crc: u32, _: u8| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(byte), step))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = SIGNATURE.to_vec();
        header.extend([command, family]);
        header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        header.extend(body);
        header
    }

    const V4: [u8; 12] = [192, 0, 2, 1, 198, 51, 100, 1, 0x30, 0x39, 0x01, 0xbb];

    fn v6(source: &str) -> Vec<u8> {
        let mut body = source.parse::<Ipv6Addr>().unwrap().octets().to_vec();
        body.extend([0; 16]);
        body.extend([0x30, 0x39, 0x01, 0xbb]);
        body
    }

    fn with(tlvs: &[u8]) -> Vec<u8> {
        [&V4[..], tlvs].concat()
    }

    async fn told(bytes: &[u8]) -> Result<Proxied, NoHeader> {
        read(&mut &bytes[..]).await
    }

    #[tokio::test]
    async fn a_client_is_named_by_its_address_and_port() {
        let client = |text: &str| Ok(Proxied::Client(text.parse().unwrap()));
        assert_eq!(told(&header(0x21, 0x11, &V4)).await, client("192.0.2.1:12345"));
        assert_eq!(told(&header(0x21, 0x21, &v6("2001:db8::1"))).await, client("[2001:db8::1]:12345"));
        assert_eq!(told(&header(0x21, 0x21, &v6("::ffff:192.0.2.1"))).await, client("192.0.2.1:12345"));
        assert_eq!(told(&header(0x21, 0x11, &with(&[0x04, 0, 2, 0, 0]))).await, client("192.0.2.1:12345"));
        assert_eq!(told(&header(0x20, 0x00, &[])).await, Ok(Proxied::Own));
        assert_eq!(told(&header(0x20, 0x11, &V4)).await, Ok(Proxied::Own));
    }

    #[tokio::test]
    async fn what_is_not_a_header_of_version_2_is_refused() {
        let mut wrong_signature = header(0x21, 0x11, &V4);
        wrong_signature[0] = b'\n';
        let long = with(&[&[0x04, 0x10, 0x00][..], &[0; 0x1000]].concat());
        for (what, bytes) in [
            ("nothing", Vec::new()),
            ("version 1", b"PROXY TCP4 192.0.2.1 198.51.100.1 12345 443\r\n".to_vec()),
            ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03AAAAAAAAAAAA".to_vec()),
            ("a wrong signature", wrong_signature),
            ("version 1 in the version's place", header(0x11, 0x11, &V4)),
            ("version 3", header(0x31, 0x11, &V4)),
            ("an unknown command", header(0x22, 0x11, &V4)),
            ("UDP", header(0x21, 0x12, &V4)),
            ("a Unix socket", header(0x21, 0x31, &[0; 216])),
            ("an unspecified family", header(0x21, 0x00, &[])),
            ("addresses cut short", header(0x21, 0x11, &V4[..8])),
            ("v4 addresses said to be v6", header(0x21, 0x21, &V4)),
            ("a body cut short", header(0x21, 0x11, &V4)[..20].to_vec()),
            ("no client at all", header(0x21, 0x11, &[0; 12])),
            ("a TLV without its length", header(0x21, 0x11, &with(&[0x04, 0]))),
            ("a TLV that is longer than the header", header(0x21, 0x11, &with(&[0x04, 0, 9, 1]))),
            ("a checksum of three bytes", header(0x21, 0x11, &with(&[CHECKSUM, 0, 3, 1, 2, 3]))),
            ("a wrong checksum", header(0x21, 0x11, &with(&[CHECKSUM, 0, 4, 1, 2, 3, 4]))),
            ("more than is ever said", header(0x21, 0x11, &long)),
        ] {
            assert_eq!(told(&bytes).await, Err(NoHeader), "{what}");
        }
    }

    #[tokio::test]
    async fn a_right_checksum_is_accepted() {
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
        let unsigned = header(0x21, 0x11, &with(&[CHECKSUM, 0, 4, 0, 0, 0, 0]));
        let mut signed = unsigned.clone();
        let at = signed.len() - 4;
        signed[at..].copy_from_slice(&crc32c(unsigned.into_iter()).to_be_bytes());
        assert!(told(&signed).await.is_ok());
        signed[17] ^= 1;
        assert_eq!(told(&signed).await, Err(NoHeader));
    }

    #[tokio::test]
    async fn what_follows_the_header_is_left_for_tls() {
        let bytes = [header(0x21, 0x11, &V4), b"\x16\x03".to_vec()].concat();
        let mut rest = &bytes[..];
        assert!(read(&mut rest).await.is_ok());
        assert_eq!(rest, b"\x16\x03");
    }

    #[test]
    fn parsing_never_panics() {
        proptest::proptest!(|(command in 0x1eu8..0x23, family: u8, body in proptest::collection::vec(proptest::num::u8::ANY, 0..300))| {
            let header = header(command, family, &body);
            if let Ok(Proxied::Client(client)) = parse(&header) {
                proptest::prop_assert!(command == 0x21 && (family == 0x11 || family == 0x21));
                proptest::prop_assert!(!client.ip().is_unspecified());
            }
        });
    }
}
