//! Keys that tokens are verified with, each for one algorithm, as the settings give them.
//!
//! Nothing of a token adds a key or changes what a key is for: an algorithm belongs to its key, and a
//! public key is never a secret (RFC 8725 §3.1).

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ed25519_dalek::pkcs8::DecodePublicKey as _;
use hmac::{Hmac, KeyInit, Mac};
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::pkcs8::DecodePublicKey as _;
use rsa::signature::Verifier;
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, RsaPublicKey};
use serde::Deserialize;
use sha2::{Sha256, Sha384, Sha512};

/// Bytes of the modulus of an RSA key, at the least (RFC 7518 §3.3).
const MIN_MODULUS: usize = 256;
/// Keys of a set, at the most.
const MAX_KEYS: usize = 16;

/// What a signature is made with (RFC 7518 §3.1, RFC 8037 §3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Es256,
    EdDsa,
}

impl Algorithm {
    pub(crate) const NAMES: &str =
        "HS256, HS384, HS512, RS256, RS384, RS512, PS256, ES256 and EdDSA";

    /// None for all others, `none` among them.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "HS256" => Self::Hs256,
            "HS384" => Self::Hs384,
            "HS512" => Self::Hs512,
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "ES256" => Self::Es256,
            // RFC 9864 names the curve.
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// A key.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) id: Option<String>,
    pub(crate) algorithm: Algorithm,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Secret(Vec<u8>),
    Rsa(RsaPublicKey),
    P256(Box<p256::ecdsa::VerifyingKey>),
    Ed25519(Box<ed25519_dalek::VerifyingKey>),
}

/// Without what is secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// Reads a secret, a PEM public key, a JWK or a JWK set. `algorithm` may be missing where the JWKs say it.
///
/// # Errors
/// What is wrong, without the key.
pub(crate) fn keys(text: &str, algorithm: Option<Algorithm>) -> Result<Vec<Key>, String> {
    let trimmed = text.trim();
    if trimmed.starts_with('{') {
        return key_set(trimmed, algorithm);
    }
    let algorithm = algorithm.ok_or("it needs an algorithm")?;
    let material = match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
            // Else everybody who knows the public key could sign with it.
            if trimmed.contains("-----BEGIN") {
                return Err("a PEM key is no secret".to_owned());
            }
            secret(text.as_bytes().to_vec())?
        }
        Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 | Algorithm::Ps256 => {
            rsa_key(if trimmed.contains("BEGIN RSA PUBLIC KEY") {
                RsaPublicKey::from_pkcs1_pem(trimmed).map_err(|_| "no RSA public key in PEM")?
            } else {
                RsaPublicKey::from_public_key_pem(trimmed)
                    .map_err(|_| "no RSA public key in PEM")?
            })?
        }
        Algorithm::Es256 => Material::P256(Box::new(
            p256::ecdsa::VerifyingKey::from_public_key_pem(trimmed)
                .map_err(|_| "no P-256 public key in PEM")?,
        )),
        Algorithm::EdDsa => Material::Ed25519(Box::new(
            ed25519_dalek::VerifyingKey::from_public_key_pem(trimmed)
                .map_err(|_| "no Ed25519 public key in PEM")?,
        )),
    };
    Ok(vec![Key { id: None, algorithm, material }])
}

fn secret(bytes: Vec<u8>) -> Result<Material, String> {
    if bytes.is_empty() { Err("an empty secret".to_owned()) } else { Ok(Material::Secret(bytes)) }
}

fn rsa_key(key: RsaPublicKey) -> Result<Material, String> {
    if key.size() < MIN_MODULUS {
        return Err("an RSA key has at least 2,048 bits".to_owned());
    }
    Ok(Material::Rsa(key))
}

/// RFC 7517 §4 and §5, RFC 7518 §6, RFC 8037 §2: the members that are used.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    k: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct JwkSet {
    keys: Vec<Jwk>,
}

fn key_set(text: &str, algorithm: Option<Algorithm>) -> Result<Vec<Key>, String> {
    let keys = match serde_json::from_str::<JwkSet>(text) {
        Ok(set) => set.keys,
        Err(_) => vec![serde_json::from_str(text).map_err(|_| "neither JWK nor JWK set")?],
    };
    if keys.is_empty() || keys.len() > MAX_KEYS {
        return Err(format!("a JWK set has 1 to {MAX_KEYS} keys"));
    }
    keys.iter().map(|jwk| jwk.key(algorithm)).collect()
}

impl Jwk {
    fn key(&self, algorithm: Option<Algorithm>) -> Result<Key, String> {
        let own = match &self.alg {
            Some(name) => Some(Algorithm::named(name).ok_or("a JWK has an unknown `alg`")?),
            None => None,
        };
        if own.is_some() && algorithm.is_some() && own != algorithm {
            return Err("a JWK is for another algorithm".to_owned());
        }
        let algorithm = own.or(algorithm).ok_or("a JWK without `alg` needs an algorithm")?;
        let kind = (self.kty.as_str(), self.crv.as_deref(), algorithm);
        let material = match kind {
            ("oct", _, Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512) => {
                secret(member("k", self.k.as_deref())?)?
            }
            (
                "RSA",
                _,
                Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 | Algorithm::Ps256,
            ) => {
                let number = |name, value: &Option<String>| {
                    member(name, value.as_deref()).map(|bytes| BigUint::from_bytes_be(&bytes))
                };
                let key = RsaPublicKey::new(number("n", &self.n)?, number("e", &self.e)?);
                rsa_key(key.map_err(|_| "a JWK is no RSA key")?)?
            }
            ("EC", Some("P-256"), Algorithm::Es256) => {
                // SEC 1 §2.3.3: both coordinates.
                let mut point = vec![4];
                point.extend(member("x", self.x.as_deref())?);
                point.extend(member("y", self.y.as_deref())?);
                let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(&point);
                Material::P256(Box::new(key.map_err(|_| "a JWK is no point of P-256")?))
            }
            ("OKP", Some("Ed25519"), Algorithm::EdDsa) => {
                let bytes = member("x", self.x.as_deref())?;
                let bytes = bytes.try_into().map_err(|_| "a JWK is no Ed25519 key")?;
                let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes);
                Material::Ed25519(Box::new(key.map_err(|_| "a JWK is no Ed25519 key")?))
            }
            _ => return Err("a JWK is of another kind than its algorithm".to_owned()),
        };
        Ok(Key { id: self.kid.clone(), algorithm, material })
    }
}

fn member(name: &str, value: Option<&str>) -> Result<Vec<u8>, String> {
    let value = value.ok_or_else(|| format!("a JWK without `{name}`"))?;
    URL_SAFE_NO_PAD.decode(value).map_err(|_| format!("`{name}` of a JWK is no base64url"))
}

impl Key {
    /// Whether this key made that signature. Secrets are compared in constant time.
    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match (&self.material, self.algorithm) {
            (Material::Secret(secret), Algorithm::Hs256) => {
                is_mac::<Hmac<Sha256>>(secret, message, signature)
            }
            (Material::Secret(secret), Algorithm::Hs384) => {
                is_mac::<Hmac<Sha384>>(secret, message, signature)
            }
            (Material::Secret(secret), Algorithm::Hs512) => {
                is_mac::<Hmac<Sha512>>(secret, message, signature)
            }
            (Material::Rsa(key), algorithm) => is_rsa(key, algorithm, message, signature),
            (Material::P256(key), Algorithm::Es256) => {
                p256::ecdsa::Signature::from_slice(signature).is_ok_and(|signature| {
                    p256::ecdsa::signature::Verifier::verify(&**key, message, &signature).is_ok()
                })
            }
            (Material::Ed25519(key), Algorithm::EdDsa) => {
                ed25519_dalek::Signature::from_slice(signature)
                    .is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
            }
            _ => false,
        }
    }
}

fn is_mac<M: Mac + KeyInit>(secret: &[u8], message: &[u8], signature: &[u8]) -> bool {
    <M as KeyInit>::new_from_slice(secret)
        .is_ok_and(|mac| mac.chain_update(message).verify_slice(signature).is_ok())
}

fn is_rsa(key: &RsaPublicKey, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
    use rsa::sha2::{Sha256, Sha384, Sha512};
    use rsa::{pkcs1v15, pss};
    let key = key.clone();
    if algorithm == Algorithm::Ps256 {
        return pss::Signature::try_from(signature).is_ok_and(|signature| {
            pss::VerifyingKey::<Sha256>::new(key).verify(message, &signature).is_ok()
        });
    }
    let Ok(signature) = pkcs1v15::Signature::try_from(signature) else { return false };
    match algorithm {
        Algorithm::Rs256 => pkcs1v15::VerifyingKey::<Sha256>::new(key).verify(message, &signature),
        Algorithm::Rs384 => pkcs1v15::VerifyingKey::<Sha384>::new(key).verify(message, &signature),
        Algorithm::Rs512 => pkcs1v15::VerifyingKey::<Sha512>::new(key).verify(message, &signature),
        _ => return false,
    }
    .is_ok()
}
