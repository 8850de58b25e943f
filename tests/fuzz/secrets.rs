//! Secrets: whatever stands around one, it is not shown.

use std::borrow::Cow;

use hareload::haproxy::secrets::{
    is_secret_file, joined, redact, redact_about, redact_after, redact_output, redact_probe,
};
use hareload::report::diff;

use crate::{assert_safe, hostile};

/// Nothing in a text comes near it by itself.
const SECRET: &str = "Zq7wXk9vB";

/// Lines with a secret, of which `@` keeps the place.
const LINES: [&str; 29] = [
    "user bob password a @ groups g",
    "user bob groups g insecure-password @ @ b",
    r"insecure-password a\ @ x @",
    "user bob password @",
    "user bob insecure-password '@ @' groups g",
    "stats auth bob:@",
    "stats auth @ @",
    "cluster-secret \"@ @\"",
    "dynamic-cookie-key @",
    "setenv DB_PASSWORD @",
    "presetenv API_TOKEN '@'",
    "http-request set-header Authorization \"Basic @\"",
    "http-response add-header X-Api-Key @ if ok",
    "http-check send meth GET uri / hdr Cookie a=@",
    r"option httpchk GET / HTTP/1.1\r\nAuthorization:\ Basic\ @",
    "http-request set-header X-A \"Bearer @\"",
    "http-request redirect location https://bob:@@h.example/",
    "acl ok var(txn.a),jwt_verify(txn.b,\"@,@)@\") 1",
    "http-request set-var(txn.a) var(txn.b),hmac(sha256,@)",
    "http-request set-var(txn.a) var(txn.b),aes_gcm_enc(128,txn.c,@,txn.d)",
    "http-request set-var(txn.secret) str(@)",
    "acl ok str(@),secure_memcmp(txn.a)",
    "http-request deny unless { req.hdr(x-api-key) -m str @ }",
    r#"tcp-check send "AUTH @\r\n""#,
    "bind :443 ssl ca-sign-pass @",
    "server s 192.0.2.1:80 tcp-md5sig @ check",
    "ssl-passphrase-cmd /bin/echo @",
    "option httpchk GET /?api_key=@&a=b",
    "command a --password @ -v",
];

/// Ordinary lines, as the documents and distributions have them.
const ORDINARY: &str = "global
    log /dev/log local0
    chroot /var/lib/haproxy
    stats socket /run/haproxy/admin.sock mode 660 level admin expose-fd listeners
    stats timeout 30s
    user haproxy
    group haproxy
    ca-base /etc/ssl/certs
    crt-base /etc/ssl/private
    ssl-default-bind-ciphers ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256
    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets
defaults
    errorfile 400 /etc/haproxy/errors/400.http
    option httplog
frontend web
    bind :443 ssl crt /etc/ssl/private/a.pem tls-ticket-keys /run/keys alpn h2,http/1.1
    bind /run/haproxy/web.sock user www group www mode 660 accept-proxy
    acl static path_beg -i /static /images
    use_backend apps if { req.hdr(host) -i a.example } !static
    http-request set-header X-Forwarded-Proto https if { ssl_fc }
    http-request track-sc0 src table limits
    redirect scheme https code 301 unless { ssl_fc }
backend apps
    balance uri whole
    cookie SERVERID insert indirect nocache
    option httpchk GET /health HTTP/1.1\\r\\nHost:\\ a.example
    stick-table type string len 64 size 100k expire 30m store conn_cur,http_req_rate(10s)
    option mysql-check user haproxy post-41
    server a1 192.0.2.1:8080 check inter 2s fall 3 rise 2 cookie a1
    server-template web 5 _http._tcp.example:80 resolvers dns check";

#[test]
fn a_secret_is_never_shown() {
    let words: [&[u8]; 16] = [
        b"\t",
        b"  ",
        b"#",
        b"# ",
        b"don't ",
        b"'",
        b"\"",
        b"\\",
        b"mode http ",
        b"(",
        b"{ ",
        b"}",
        b"parsing [a:1]: ",
        b"@",
        b"no ",
        "é".as_bytes(),
    ];
    hostile(&words, |text| {
        let around = String::from_utf8_lossy(text);
        // what comes before may be a comment or a message, and may not make another line of it
        let (before, after) = around.split_once('@').unwrap_or((&around, ""));
        let before = before.replace(['\n', '\r', '\0', '\\', '=', ':'], " ");
        for line in LINES {
            let line = format!(
                "{before} {}",
                line.replace('@', SECRET).replace(&SECRET.repeat(2), &format!("{SECRET}@"))
            );
            for line in [line.clone(), format!("{line} {after}")] {
                let shown = redact(&line);
                assert!(!shown.contains(SECRET), "{line:?} became {shown:?}");
                assert_eq!(redact(&shown), shown, "of {line:?}");
                assert!(!redact_about(&format!("what is '{SECRET}'?"), &line).contains(SECRET), "{line:?}");
            }
        }
    });
}

#[test]
fn a_secret_in_the_next_line_is_never_shown() {
    let words: [&[u8]; 8] = [b" ", b"\t", b"'", b"\"", b"#", b"@", b" groups g", "é".as_bytes()];
    hostile(&words, |text| {
        let around = String::from_utf8_lossy(text).replace(['\n', '\r', '\0'], " ");
        for before in ["user bob password \\", " user bob groups g insecure-password \\", "stats auth \\"] {
            let line = format!("{SECRET} {around}");
            let shown = redact_after(&joined("", before), &line);
            assert!(!shown.contains(SECRET), "{line:?} became {shown:?}");
        }
    });
}

#[test]
fn a_probe_is_never_told_with_its_secret() {
    let words: [&[u8]; 14] = [
        b"/",
        b"?",
        b"&",
        b"=",
        b";",
        b"@",
        b":",
        b" ",
        b"'",
        b"\"",
        b"a",
        b"80",
        b"http://",
        "é".as_bytes(),
    ];
    hostile(&words, |text| {
        let around = String::from_utf8_lossy(text);
        let quiet = around.replace(['@', '?', ':', '"', '\''], "");
        for probe in [
            format!("http://me:{SECRET}@{around}"),
            format!("http://me:{around}{SECRET}@h"),
            format!("http://127.0.0.1:80/?{around}={SECRET}&{around}={SECRET}"),
            format!("http://127.0.0.1:80/{quiet}?{SECRET}"),
            format!("exec:curl -u a:{SECRET} {around}"),
            format!("exec:FOO_TOKEN={SECRET} cmd {around}"),
        ] {
            let shown = redact_probe(&probe);
            assert!(!shown.contains(SECRET), "{probe:?} became {shown:?}");
            if let Some(command) = probe.strip_prefix("exec:") {
                assert!(
                    !redact_output(&format!("what is '{SECRET}'?"), command).contains(SECRET),
                    "{probe:?}"
                );
            }
        }
    });
}

#[test]
fn ordinary_lines_are_shown_as_they_are() {
    for line in ORDINARY.lines() {
        assert!(
            matches!(redact(line), Cow::Borrowed(shown) if shown == line),
            "{line} became {}",
            redact(line)
        );
    }
}

#[test]
fn a_difference_is_safe_to_show() {
    let words: [&[u8]; 12] = [
        b"\nstats auth Zq7wXk9vB\n",
        b"\nsetenv TOKEN Zq7wXk9vB\n",
        b"mode http\n",
        b"bind :80\n",
        b"\n",
        b"\r\n",
        b"#",
        b"\t",
        b"\x1b[2J",
        b"-----BEGIN PRIVATE KEY-----\n",
        b"listen a\n",
        "\u{202e}".as_bytes(),
    ];
    hostile(&words, |text| {
        let half = text.len() / 2;
        let (before, after) =
            text.split_at(half + text[half..].iter().position(|byte| *byte == b'\n').unwrap_or(0));
        for (before, after) in [(Some(before), Some(after)), (None, Some(after)), (Some(before), None)] {
            let shown = diff::unified("h.cfg", before, after);
            assert!(!shown.contains(SECRET), "{shown}");
            shown.split(['\n', '\t']).for_each(assert_safe);
            let hidden = [before, after].into_iter().flatten().any(is_secret_file);
            assert!(!hidden || before == after || shown.lines().count() == 1, "{shown}");
            assert_eq!(shown.is_empty(), before == after);
        }
    });
}
