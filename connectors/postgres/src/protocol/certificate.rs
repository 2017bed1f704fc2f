// SPDX-License-Identifier: Apache-2.0
//! Channel binding `tls-server-end-point` (RFC 5929): a hash of the server's certificate, made with the hash function of
//! the certificate's own signature.

use sha2::{Digest, Sha256, Sha384, Sha512};

/// The channel binding data for a certificate in DER, or `None` where the RFC defines none (Ed25519, for example).
pub fn tls_server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    Some(match signature_algorithm(certificate)? {
        // sha256WithRSAEncryption, ecdsa-with-SHA256; MD5 and SHA-1 are raised to SHA-256 by the RFC.
        SHA256_RSA | SHA256_ECDSA | SHA1_RSA | MD5_RSA | SHA1_ECDSA => Sha256::digest(certificate).to_vec(),
        SHA384_RSA | SHA384_ECDSA => Sha384::digest(certificate).to_vec(),
        SHA512_RSA | SHA512_ECDSA => Sha512::digest(certificate).to_vec(),
        _ => return None,
    })
}

const MD5_RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 4];
const SHA1_RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 5];
const SHA256_RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 11];
const SHA384_RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 12];
const SHA512_RSA: &[u8] = &[0x2A, 0x86, 0x48, 0x86, 0xF7, 0x0D, 1, 1, 13];
const SHA1_ECDSA: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 1];
const SHA256_ECDSA: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 2];
const SHA384_ECDSA: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 3];
const SHA512_ECDSA: &[u8] = &[0x2A, 0x86, 0x48, 0xCE, 0x3D, 4, 3, 4];

const SEQUENCE: u8 = 0x30;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// The object identifier of the algorithm that signed the certificate:
/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm SEQUENCE { OID, ... }, signature }`.
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    let (outer, _) = element(certificate, SEQUENCE)?;
    let (_, after_tbs) = element(outer, SEQUENCE)?;
    let (algorithm, _) = element(after_tbs, SEQUENCE)?;
    let (identifier, _) = element(algorithm, OBJECT_IDENTIFIER)?;
    Some(identifier)
}

/// The content of the DER element at the head of `bytes`, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = bytes.split_first()?;
    if *found != tag {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match *first {
        short @ 0..=0x7F => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long - 0x80))?;
            (
                digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)),
                rest,
            )
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn certificate(algorithm: &[u8]) -> Vec<u8> {
        let der = |tag: u8, content: &[u8]| [&[tag, 0x81, content.len() as u8], content].concat();
        let tbs = der(SEQUENCE, b"to be signed");
        let algorithm = der(SEQUENCE, &der(OBJECT_IDENTIFIER, algorithm));
        der(SEQUENCE, &[tbs, algorithm, der(3, b"signature")].concat())
    }

    #[test]
    fn the_hash_is_that_of_the_signature() {
        for (algorithm, length) in [(SHA1_RSA, 32), (SHA256_RSA, 32), (SHA384_ECDSA, 48), (SHA512_RSA, 64)] {
            let certificate = certificate(algorithm);
            assert_eq!(tls_server_end_point(&certificate).unwrap().len(), length);
        }
        let sha256 = certificate(SHA256_ECDSA);
        assert_eq!(tls_server_end_point(&sha256).unwrap(), Sha256::digest(&sha256).to_vec());
    }

    #[test]
    fn an_undefined_algorithm_gives_no_binding() {
        assert_eq!(tls_server_end_point(&certificate(&[0x2B, 0x65, 0x70])), None);
        assert_eq!(tls_server_end_point(b""), None);
    }

    proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = tls_server_end_point(&bytes);
        }
    }
}
