use serde_json::{Value, json};

use super::key::keys;
use super::*;
use crate::settings::DEMO_KEY;
use crate::testing::signed;

const NOW: f64 = 1_800_000_000.0;
const AUDIENCE: &str = "https://hub.example.com/.well-known/mercure";

fn verifier() -> Verifier {
    Verifier {
        keys: keys(DEMO_KEY, Some(Algorithm::Hs256)).unwrap(),
        audiences: vec![AUDIENCE.to_owned(), "hub".to_owned()],
        issuers: Vec::new(),
        compatible: true,
    }
}

fn verify(verifier: &Verifier, header: &str, claims: &Value) -> Result<Token, Invalid> {
    verifier.verify(&signed(header, &claims.to_string(), DEMO_KEY.as_bytes()), AUDIENCE, NOW)
}

const ACCESS: &str = r#"{"alg":"HS256","typ":"at+jwt"}"#;
const LEGACY: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

fn claims(changes: &Value) -> Value {
    let mut claims = json!({"exp": NOW + 60.0, "aud": AUDIENCE, "authorization_details": []});
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

#[test]
fn access_tokens_are_for_this_hub_and_end() {
    for (changes, holds) in [
        (json!({}), true),
        (json!({"aud": ["x", "hub"]}), true),
        (json!({"nbf": NOW}), true),
        (json!({"exp": NOW + 0.5}), true),
        (json!({"iss": "https://anybody.example"}), true),
        (json!({"exp": null}), false),
        (json!({"exp": NOW}), false),
        (json!({"exp": "9999999999"}), false),
        (json!({"nbf": NOW + 1.0}), false),
        (json!({"aud": null}), false),
        (json!({"aud": []}), false),
        (json!({"aud": "https://other.example/.well-known/mercure"}), false),
        (json!({"aud": format!("{AUDIENCE}/")}), false),
        (json!({"aud": 1}), false),
    ] {
        assert_eq!(verify(&verifier(), ACCESS, &claims(&changes)).is_ok(), holds, "{changes}");
    }
}

#[test]
fn a_hub_without_a_name_is_that_which_was_asked() {
    let verifier = Verifier { audiences: Vec::new(), ..verifier() };
    for (audience, holds) in [
        (json!(AUDIENCE), true),
        (json!(["x", AUDIENCE]), true),
        (json!("hub"), false),
        (json!(""), false),
    ] {
        let claims = claims(&json!({"aud": audience}));
        assert_eq!(verify(&verifier, ACCESS, &claims).is_ok(), holds, "{audience}");
    }
}

#[test]
fn issuers_are_checked_where_there_are_any() {
    let verifier = Verifier { issuers: vec!["https://auth.example".into()], ..verifier() };
    for (issuer, holds) in [
        (json!("https://auth.example"), true),
        (json!("https://auth.example/"), false),
        (json!(null), false),
    ] {
        assert_eq!(
            verify(&verifier, ACCESS, &claims(&json!({"iss": issuer}))).is_ok(),
            holds,
            "{issuer}"
        );
    }
    // 0.x had no issuers: one that is named must be right.
    for (issuer, holds) in
        [(json!(null), true), (json!("https://auth.example"), true), (json!("x"), false)]
    {
        let claims = json!({"mercure": {}, "iss": issuer});
        assert_eq!(verify(&verifier, LEGACY, &claims).is_ok(), holds, "{issuer}");
    }
}

#[test]
fn the_type_decides_which_rights_count() {
    let both = claims(&json!({"mercure": {"publish": ["*"]}}));
    let rights = |header: &str| verify(&verifier(), header, &both).map(|token| token.rights);

    for kind in ["at+jwt", "AT+JWT", "application/at+jwt", "Application/At+Jwt"] {
        let header = format!(r#"{{"alg":"HS256","typ":"{kind}"}}"#);
        assert!(matches!(rights(&header), Ok(Rights::Details(Some(_)))), "{kind}");
    }
    for header in [LEGACY, r#"{"alg":"HS256"}"#, r#"{"alg":"HS256","typ":"application/jwt"}"#] {
        assert!(matches!(rights(header), Ok(Rights::Legacy(_))), "{header}");
    }
    assert_eq!(verify(&verifier(), LEGACY, &claims(&json!({}))).unwrap_err(), Invalid);
    let strict = Verifier { compatible: false, ..verifier() };
    assert_eq!(verify(&strict, LEGACY, &both).unwrap_err(), Invalid);
}

#[test]
fn tokens_of_0_x_need_neither_end_nor_audience_but_keep_to_theirs() {
    for (claims, holds) in [
        (json!({"mercure": {"publish": ["*"]}}), true),
        (json!({"https://mercure.rocks/": {"subscribe": ["a"]}}), true),
        (json!({"mercure": {}, "exp": NOW + 1.0}), true),
        (json!({"mercure": {}, "aud": "hub"}), true),
        (json!({"mercure": {}, "exp": NOW - 1.0}), false),
        (json!({"mercure": {}, "nbf": NOW + 1.0}), false),
        (json!({"mercure": {}, "aud": "other"}), false),
        (json!({"mercure": {"publish": "*"}}), false),
        (json!({"mercure": {"publish": [1]}}), false),
        (json!({"mercure": null}), false),
        (json!({"sub": "me"}), false),
    ] {
        assert_eq!(verify(&verifier(), LEGACY, &claims).is_ok(), holds, "{claims}");
    }
}

#[test]
fn forged_tokens_are_refused() {
    let good = signed(LEGACY, r#"{"mercure":{"publish":["*"]}}"#, DEMO_KEY.as_bytes());
    let claims = good.split('.').nth(1).unwrap();
    let signature = good.split('.').nth(2).unwrap();
    let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let other = encode(r#"{"mercure":{"publish":["*"],"x":1}}"#);
    let wrong_key = signed(LEGACY, r#"{"mercure":{"publish":["*"]}}"#, b"wrong");
    let critical = r#"{"alg":"HS256","crit":["exp"]}"#;
    let critical = signed(critical, r#"{"mercure":{}}"#, DEMO_KEY.as_bytes());
    let own_key = format!(r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{}"}}}}"#, encode("mine"));
    let own_key = signed(&own_key, r#"{"mercure":{}}"#, b"mine");
    let none = format!("{}.{claims}.", encode(r#"{"alg":"none"}"#));
    let none_signed = format!("{}.{claims}.{signature}", encode(r#"{"alg":"none"}"#));
    let header = good.split('.').next().unwrap();

    assert!(verifier().verify(&good, AUDIENCE, NOW).is_ok());
    for token in [
        String::new(),
        "...".to_owned(),
        format!("{header}.{claims}"),
        format!("{header}.{claims}."),
        format!("{header}.{other}.{signature}"),
        format!("{header}.{claims}.{}", &signature[1..]),
        format!("{good}="),
        format!("{good}.{signature}"),
        format!(" {good}"),
        wrong_key,
        critical,
        own_key,
        none,
        none_signed,
        format!("{}.{claims}.{signature}", encode(r#"{"alg":"HS512"}"#)),
        format!("{}.{claims}.{signature}", encode(r#"{"alg":"hs256"}"#)),
        signed(r#"{"alg":"HS256","alg":"none"}"#, r#"{"mercure":{}}"#, DEMO_KEY.as_bytes()),
        signed(
            LEGACY,
            &format!(r#"{{"mercure":{{}},"x":"{}"}}"#, "x".repeat(MAX_TOKEN)),
            DEMO_KEY.as_bytes(),
        ),
        signed(LEGACY, &"[".repeat(5000), DEMO_KEY.as_bytes()),
    ] {
        assert_eq!(verifier().verify(&token, AUDIENCE, NOW).unwrap_err(), Invalid, "{token:.60}");
    }
}

/// RFC 7515, appendix A, and RFC 8037, appendix A.4: message and signature.
#[rustfmt::skip]
const RFC_TOKENS: [(&str, &str, &str); 4] = [
    ("HS256", r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow","alg":"HS256"}"#,
     "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
    ("RS256", r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB","alg":"RS256"}"#,
     "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw"),
    ("ES256", r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","alg":"ES256"}"#,
     "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"),
    ("EdDSA", r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","alg":"EdDSA"}"#,
     "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"),
];

/// Made by Node.js 20: `crypto.sign` with a salt of 32 bytes.
const PS256_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
    MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAjpNQ9oCxlEfNOMOCjnxU\n\
    tPbwakO0bCAZxbpadEKbF+4P1d5GH4Y4e950JenTiFn0t7QJTG6G/1NyvYHhTvg5\n\
    SlfMYRCI6otplGj28YQJtulOZIEAeBkH0XPysNrYOXfPHoeZvKHe+nioYDMLL6Ex\n\
    wHPW9Emha55gzvWKJM3bq7ftxoGE3I23uWNFvHKUzoBvY1vGe4huUwoBX0hikkbM\n\
    X5P1R0kQxRPFTo2guuP68qPCsGhruPeur+hnTK57T5h/Y6KCBIiekQDkjgvi0hpw\n\
    0XNunmFVyKhrShO8kKC2KP6BaU6VXva1mLiNgl+hC15YZ2iEpVc94Qw7w04yO6Te\n\
    pQIDAQAB\n\
    -----END PUBLIC KEY-----\n";
const PS256_TOKEN: &str = "eyJhbGciOiJQUzI1NiJ9.eyJtZXJjdXJlIjp7InN1YnNjcmliZSI6WyJhIl19fQ.f2n2i8Al1nMvNcNj9_KQRh7ot1PC1dDe0jFqtAJciptAFpPy1PjuILtRT8cQS62P_WVN6UcX8MZV-eFZKEyOFGGxpBoj87GY4v1sUxsmpwDV6lcO5gIomwZszLPSpMyjzTqHCC9ZZRqQWyMlTZq0Ye44YixPxsV3w4qYjS1H-b9jDi6dkzibD0tKBVfBYgGLP6sseNzrFJdi4_DJyP4opjwzgG9Ly65om-aVHOgIS_EV0I3WSdi9zQMNzvpt-CAHHDMngI4XvFJBDzm6EGlq1T4Vuz3dnuJDmstX3k32cDu4R18SdKR7nWDc6VFGBexvTSbRQMBq6ws6iIucR0KD8w";
const SHORT_RSA_PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
    MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDc6O/+m+TaueS0o75JA1dT4Thj\n\
    UiNN/oDfrFfk+t4aa0wJ4b/EJHYFkd9kYispe71tU1CX5sJCIO/H914dmzEGQZGZ\n\
    ycA2un0H4H6EEJ+ZBFif53CVBgz7j0Po0nm9di3wEo7aN78C3EvuL42cWH1HA5ke\n\
    HVtMnRJrjvNehmfrzQIDAQAB\n\
    -----END PUBLIC KEY-----\n";

#[test]
fn signatures_of_the_rfcs_hold_and_changed_ones_do_not() {
    let ps256 = ("PS256", PS256_PEM, PS256_TOKEN);
    for (algorithm, key, token) in RFC_TOKENS.into_iter().chain([ps256]) {
        let keys = keys(key, Algorithm::named(algorithm)).unwrap();
        let (message, signature) = token.rsplit_once('.').unwrap();
        let mut signature = URL_SAFE_NO_PAD.decode(signature).unwrap();

        assert!(keys[0].verify(message.as_bytes(), &signature), "{algorithm}");
        assert!(!keys[0].verify(b"another message", &signature), "{algorithm}");
        signature[10] ^= 1;
        assert!(!keys[0].verify(message.as_bytes(), &signature), "{algorithm}");
        assert!(!keys[0].verify(message.as_bytes(), b""), "{algorithm}");
    }
}

#[test]
fn a_public_key_is_no_secret_whatever_the_token_says() {
    for (algorithm, key, _) in &RFC_TOKENS[1..] {
        let verifier = Verifier { keys: keys(key, None).unwrap(), ..verifier() };
        for secret in [*key, PS256_PEM] {
            let forged = signed(LEGACY, r#"{"mercure":{"publish":["*"]}}"#, secret.as_bytes());
            assert_eq!(
                verifier.verify(&forged, AUDIENCE, NOW).unwrap_err(),
                Invalid,
                "{algorithm}"
            );
        }
    }
    let verifier =
        Verifier { keys: keys(PS256_PEM, Some(Algorithm::Ps256)).unwrap(), ..verifier() };
    assert!(verifier.verify(PS256_TOKEN, AUDIENCE, NOW).is_ok());
    let as_rs256 = Verifier { keys: keys(PS256_PEM, Some(Algorithm::Rs256)).unwrap(), ..verifier };
    assert_eq!(as_rs256.verify(PS256_TOKEN, AUDIENCE, NOW).unwrap_err(), Invalid);
}

#[test]
fn a_key_id_chooses_among_the_keys_of_a_set() {
    let jwk = |id: &str, secret: &str| json!({"kty": "oct", "alg": "HS256", "kid": id, "k": URL_SAFE_NO_PAD.encode(secret)});
    let set = json!({"keys": [jwk("1", "first"), jwk("2", "second")]}).to_string();
    let verifier = Verifier { keys: keys(&set, None).unwrap(), ..verifier() };
    for (id, secret, holds) in [
        (r#","kid":"1""#, "first", true),
        (r#","kid":"2""#, "second", true),
        (r#","kid":"1""#, "second", false),
        (r#","kid":"3""#, "first", false),
        ("", "second", true),
    ] {
        let header = format!(r#"{{"alg":"HS256"{id}}}"#);
        let token = signed(&header, r#"{"mercure":{}}"#, secret.as_bytes());
        assert_eq!(verifier.verify(&token, AUDIENCE, NOW).is_ok(), holds, "{id} {secret}");
    }
}

#[test]
fn keys_that_will_not_do_are_refused() {
    let ec = RFC_TOKENS[2].1;
    for (key, algorithm) in [
        ("", Some(Algorithm::Hs256)),
        ("secret", None),
        (SHORT_RSA_PEM, Some(Algorithm::Rs256)),
        (PS256_PEM, Some(Algorithm::Hs256)),
        (PS256_PEM, Some(Algorithm::Es256)),
        (ec, Some(Algorithm::Hs256)),
        (r#"{"keys":[]}"#, None),
        (r#"{"kty":"oct","alg":"none","k":"YQ"}"#, None),
        (r#"{"kty":"oct","alg":"RS256","k":"YQ"}"#, None),
        (r#"{"kty":"EC","crv":"P-256","alg":"ES256","x":"YQ","y":"YQ"}"#, None),
        (r#"{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","x":"YQ"}"#, None),
    ] {
        assert!(keys(key, algorithm).is_err(), "{key:.40} {algorithm:?}");
    }
}
