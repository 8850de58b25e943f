use super::*;

/// Each line with `S3CR3T` for the secret, and what is shown.
#[test]
fn secrets_are_hidden_and_all_else_is_shown() {
    for (line, shown) in [
        ("\tuser bob password $6$k6y3o.eP$JlKBx9za S3CR3T", "\tuser bob password *** ***"),
        ("user bob password S3CR3T S3CR3T groups g # c", "user bob password *** *** groups g # c"),
        ("user bob password $5$S3CR3T$S3CR3T groups g", "user bob password *** groups g"),
        ("user bob groups g password \"S3CR3T S3CR3T\" x", "user bob groups g password *** ***"),
        (r"user bob insecure-password S3CR3T\ S3CR3T groups g", "user bob insecure-password *** groups g"),
        ("user bob insecure-password \"S3CR3T S3CR3T groups g", "user bob insecure-password ***"),
        ("user bob pasword S3CR3T S3CR3T groups g", "user bob pasword *** *** groups g"),
        ("insecure-password S3CR3T S3CR3T", "insecure-password *** ***"),
        (
            "  user bob  insecure-password 'S3CR3T S3CR3T' groups G1 # c",
            "  user bob  insecure-password *** groups G1 # c",
        ),
        ("user bob groups G1,G2 password S3CR3T", "user bob groups G1,G2 password ***"),
        ("user bob insecure-pasword S3CR3T", "user bob insecure-pasword ***"),
        ("user bob insecure-password ab#S3CR3T x", "user bob insecure-password *** ***"),
        ("stats auth admin:S3CR3T", "stats auth ***"),
        ("stats auth a dmin:S3CR3T # who may", "stats auth *** *** # who may"),
        ("stats atuh admin:S3CR3T S3CR3T", "stats atuh *** ***"),
        ("stat auth admin:S3CR3T S3CR3T", "stat auth *** ***"),
        ("\"stats\" a\\x75th admin:S3CR3T", "\"stats\" a\\x75th ***"),
        ("  # stats auth a:S3CR3T", "  # stats auth ***"),
        ("#don't: stats auth 'a:S3CR3T S3CR3T'", "#don't: stats auth ***"),
        ("mode http # stats auth a:S3CR3T # b", "mode http # stats auth *** # b"),
        ("cluster-secret S3CR3T S3CR3T", "cluster-secret *** ***"),
        ("cluster_secret S3CR3T", "cluster_secret ***"),
        ("dynamic-cookiekey S3CR3T", "dynamic-cookiekey ***"),
        ("prsetenv MY_TOKEN S3CR3T", "prsetenv MY_TOKEN ***"),
        ("usr bob password S3CR3T", "usr bob password ***"),
        ("password S3CR3T", "password ***"),
        ("user bob S3CR3T groups g", "user bob *** groups g"),
        ("user bob hash S3CR3T", "user bob *** ***"),
        ("user haproxy", "user haproxy"),
        ("user bob groups g", "user bob groups g"),
        ("statsauth a:S3CR3T", "statsauth ***"),
        ("http-request set-headr X-Api-Key S3CR3T if x", "http-request set-headr X-Api-Key *** if x"),
        ("use_backend bypass if x", "use_backend bypass if x"),
        ("dynamic-cookie-key S3CR3T", "dynamic-cookie-key ***"),
        (
            "bind :443 ssl crt /a.pem ca-sign-pass S3CR3T alpn h2",
            "bind :443 ssl crt /a.pem ca-sign-pass *** alpn h2",
        ),
        ("server s 192.0.2.1:80 tcp-md5sig \"S3CR3T\" check", "server s 192.0.2.1:80 tcp-md5sig *** check"),
        ("setenv DB_PASS S3CR3T", "setenv DB_PASS ***"),
        ("setenv ADMIN_PW S3CR3T", "setenv ADMIN_PW ***"),
        ("setenv VPN_PSK S3CR3T", "setenv VPN_PSK ***"),
        ("setenv AUTHORITY_TOKEN S3CR3T", "setenv AUTHORITY_TOKEN ***"),
        ("setenv SPWN x", "setenv SPWN x"),
        ("setenv CERT_AUTHORITY x", "setenv CERT_AUTHORITY x"),
        (
            "http-request set-header X-Forwarded-Access-Token S3CR3T",
            "http-request set-header X-Forwarded-Access-Token ***",
        ),
        (
            "http-request set-header X-Forwarded-Proto https",
            "http-request set-header X-Forwarded-Proto https",
        ),
        ("acl in req.cook(JSESSIONID) S3CR3T", "acl in req.cook(JSESSIONID) ***"),
        ("acl de req.cook(lang) de", "acl de req.cook(lang) de"),
        ("cluster-secert S3CR3T", "cluster-secert ***"),
        ("dynamc-cookie-key S3CR3T", "dynamc-cookie-key ***"),
        ("anonkye S3CR3T", "anonkye ***"),
        ("alc ok hdr(x-api-key) S3CR3T", "alc ok hdr(x-api-key) ***"),
        ("http-request setvar(txn.token) str(S3CR3T)", "http-request setvar(txn.token) ***"),
        ("acl ok var(txn.b),jwt_verfy(txn.alg,S3CR3T) 1", "acl ok var(txn.b),jwt_verfy(txn.alg,***) 1"),
        ("set-header X %[var(txn.b),hmc(sha256,S3CR3T)]", "set-header X %[var(txn.b),hmc(sha256,***)]"),
        ("tcp-chek send \"AUTH S3CR3T\"", "tcp-chek send \"AUTH ***\""),
        (r"tcp-check send S3CR3TdXNlcg==\r\n", "tcp-check send ***"),
        (r"tcp-check send STARTTLS\r\n", r"tcp-check send STARTTLS\r\n"),
        ("tcp-check send-binary 300c020101600702010304008000", "tcp-check send-binary ***"),
        ("tcp-check send-binary 50494e470d0a", "tcp-check send-binary 50494e470d0a"),
        ("cookie SESSIONID insert indirect nocache", "cookie SESSIONID insert indirect nocache"),
        (
            "before any \"lua-load\" or \"lua-load-per-thread\" directive. Defaulting",
            "before any \"lua-load\" or \"lua-load-per-thread\" directive. Defaulting",
        ),
        ("lua-load /a.lua S3CR3T S3CR3T # x", "lua-load /a.lua *** *** # x"),
        ("presetenv MYTOKEN 'S3CR3T S3CR3T'", "presetenv MYTOKEN ***"),
        ("setenv UPSTREAM redis://u:S3CR3T@h:1/0", "setenv UPSTREAM redis://u:***@h:1/0"),
        ("ssl-passphrase-cmd /bin/echo S3CR3T", "ssl-passphrase-cmd /bin/echo ***"),
        ("acme-vars \"ApiKey=S3CR3T,b=c\"", "acme-vars ***"),
        (
            "http-request set-header Authorization \"Basic S3CR3T\" if x",
            "http-request set-header Authorization *** if x",
        ),
        (
            "http-request add-header X-Api-Key S3CR3T unless a",
            "http-request add-header X-Api-Key *** unless a",
        ),
        (
            "http-response replace-header Set-Cookie a=(.*) S3CR3T if x",
            "http-response replace-header Set-Cookie *** *** if x",
        ),
        (
            "http-check send meth GET uri / hdr authorization S3CR3T",
            "http-check send meth GET uri / hdr authorization ***",
        ),
        (
            "http-check expect hdr name X-Token value -m str S3CR3T",
            "http-check expect hdr name X-Token value -m str ***",
        ),
        ("option httpchk GET /h?token=S3CR3T&a=b HTTP/1.1", "option httpchk GET /h?token=***&a=b HTTP/1.1"),
        (
            r"option httpchk GET / HTTP/1.1\r\nHost:\ a\r\nAuthorization:\ Basic\ S3CR3T==\r\nX-A:\ b",
            r"option httpchk GET / HTTP/1.1\r\nHost:\ a\r\nAuthorization:\ ***\r\nX-A:\ b",
        ),
        (
            r"option httpchk OPTIONS * HTTP/1.1\r\nX-Api-Key:\ S3CR3T\ S3CR3T",
            r"option httpchk OPTIONS * HTTP/1.1\r\nX-Api-Key:\ ***",
        ),
        (r"reqadd Cookie:\ S3CR3T if x", r"reqadd Cookie:\ *** if x"),
        ("http-request set-header X-A \"Bearer S3CR3T\"", "http-request set-header X-A \"Bearer ***\""),
        (
            r#"http-check send body "{\"password\": \"S3CR3T\"}""#,
            r#"http-check send body "{\"password\": ***}""#,
        ),
        ("redirect location https://bob:S3CR3T@h.example/a", "redirect location https://bob:***@h.example/a"),
        (
            "redirect location https://bob:S3/CR3T@h.example/a",
            "redirect location https://bob:***@h.example/a",
        ),
        ("log https://ghp_S3CR3TS3CR3TS3CR3T@h/a", "log https://***@h/a"),
        (
            "acl ok var(txn.b),jwt_verify(req.hdr(a),S3CR3T) 1",
            "acl ok var(txn.b),jwt_verify(req.hdr(a),***) 1",
        ),
        (
            "set-header d %[src,aes_gcm_dec(128,req.hdr(n),S3CR3T,req.hdr(t))]",
            "set-header d %[src,aes_gcm_dec(128,req.hdr(n),***,req.hdr(t))]",
        ),
        ("acl ok var(txn.b),jwt_verify(txn.alg,\"S3CR3T\") 1", "acl ok var(txn.b),jwt_verify(txn.alg,***) 1"),
        (
            r#"set-header X "%[var(txn.b),hmac(sha256,\"S3,)CR3T\"),hex]""#,
            r#"set-header X "%[var(txn.b),hmac(sha256,***),hex]""#,
        ),
        (
            "var(a),aes_gcm_dec(128,txn.nonce,S3CR3T==,txn.tag)",
            "var(a),aes_gcm_dec(128,txn.nonce,***,txn.tag)",
        ),
        ("var(a),jwt_decrypt_secret(\"S3CR3T\")", "var(a),jwt_decrypt_secret(***)"),
        ("acl given str(S3CR3T),secure_memcmp(txn.a)", "acl given str(***),secure_memcmp(txn.a)"),
        ("http-request set-var(txn.api_key) str(S3CR3T) if x", "http-request set-var(txn.api_key) *** if x"),
        ("set-var proc.secret str(\"S3CR3T\")", "set-var proc.secret ***"),
        ("set-var-fmt proc.token \"S3CR3T\"", "set-var-fmt proc.token ***"),
        (
            "acl known req.hdr(X-Api-Key) -i -m str S3CR3T S3CR3T",
            "acl known req.hdr(X-Api-Key) -i -m str *** ***",
        ),
        (
            "http-request deny unless { url_param(token) S3CR3T } or a",
            "http-request deny unless { url_param(token) *** } or a",
        ),
        (
            "use_backend b if { req.hdr(authorization) -m str \"Bearer S3CR3T\" }",
            "use_backend b if { req.hdr(authorization) -m str *** }",
        ),
        (r#"tcp-check send "AUTH S3CR3T\r\n""#, r#"tcp-check send "AUTH ***""#),
        (r"tcp-check send AUTH\ S3CR3T\r\n comment x", r"tcp-check send AUTH\ *** comment x"),
        (
            r"tcp-check send *2\r\n$4\r\nAUTH\r\n$6\r\nS3CR3T\r\n",
            r"tcp-check send *2\r\n$4\r\nAUTH\r\n$6\r\n***",
        ),
        ("tcp-check send AUTH S3CR3T", "tcp-check send AUTH ***"),
        ("tcp-check send-binary 41555448205333 comment x", "tcp-check send-binary *** comment x"),
        (
            "command prog --password S3CR3T --port 80 -u bob:S3CR3T",
            "command prog --password *** --port 80 -u ***",
        ),
        ("set-param HTTP_AUTHORIZATION S3CR3T", "set-param HTTP_AUTHORIZATION ***"),
        (
            "parsing [c:1]: 'cluster-secret' cannot handle unexpected argument 'S3CR3T'.",
            "parsing [c:1]: 'cluster-secret' cannot handle unexpected argument '***'.",
        ),
        ("  stats auth 'a:S3CR3T", "  stats auth ***"),
        ("# the password: S3CR3T, ask", "# the password: *** ask"),
    ] {
        assert_eq!(redact(line), shown, "of {line}");
        assert_eq!(redact(shown), shown, "again, of {line}");
    }
}

#[test]
fn what_is_no_secret_is_borrowed() {
    for line in [
        "",
        "global",
        "    user haproxy",
        "    stats socket /run/haproxy/admin.sock user haproxy group haproxy mode 660 level admin expose-fd listeners",
        "stats socket ipv4@127.0.0.1:9999 level admin",
        "stats uri /stats:all",
        "option mysql-check user haproxy post-41",
        "bind :443 ssl crt /etc/ssl/private/a.pem tls-ticket-keys /run/keys alpn h2,http/1.1",
        "server auth-token token-service:8080 check inter 2s hash-key addr",
        "http-request auth realm Secret\\ things if !ok",
        "acl ok http_auth(users)",
        "acl has hdr(Authorization) -m found",
        "http-request deny if { req.hdr_cnt(authorization) gt 1 }",
        "http-request deny unless { req.hdr(authorization) -m beg -i bearer }",
        "http-request set-header X-Forwarded-Proto https",
        "http-request set-header Authorization \"Bearer ${API_TOKEN}\"",
        "http-request set-header X-Auth-User %[http_auth_user]",
        "http-request set-var(txn.token) req.hdr(Authorization),word(2,' ')",
        "http-request set-var(txn.token_payload) req.hdr(Authorization),word(2,.),ub64dec,json_query('$.iss')",
        "http-request deny unless { var(txn.token),jwt_verify(txn.jwt_alg,\"/path/to/pubkey.pem\") 1 }",
        "stats auth \"admin:${STATS_PASS}\"",
        "http-response set-header WWW-Authenticate 'Basic realm=\"x\"'",
        "stick-table type string len 32 size 100k expire 30m store http_req_rate(10s)",
        "cookie SERVERID insert indirect nocache",
        "log-format \"%ci:%cp [%tr] %ft %b/%s %TR/%Tw/%Tc/%Tr/%Ta %ST %B %CC %CS %tsc\"",
        "redirect location https://%[hdr(host)]:8443%[path] code 301",
        "tcp-check send PING\\r\\n",
        "# basic health checks, with the Basic scheme",
        "parsing [h.cfg:9]: unknown keyword 'bindd' in 'frontend' section; did you mean 'bind' maybe ?",
        "'stats auth' expects 'user:passwd' as argument.",
        "'user' only supports 'password', 'insecure-password' and 'groups' options.",
    ] {
        assert!(
            matches!(redact(line), Cow::Borrowed(shown) if shown == line),
            "{line} became {}",
            redact(line)
        );
    }
}

#[test]
fn a_message_about_a_line_does_not_quote_its_secrets() {
    let line = "\tstats auth 'a:S3CR3T S4CR3T' S5CR3T";
    for (message, shown) in [
        ("'stats' takes no 'S5CR3T'.", "'stats' takes no '***'."),
        ("what is a:S3CR3T S4CR3T, or S4CR3T?", "what is ***, or ***?"),
        (
            "unmatched quote at position 12:\n  ...S3CR3T S4CR\n   ^\n",
            "unmatched quote at position 12:\n  ***\n   ^\n",
        ),
        ("nothing", "nothing"),
    ] {
        assert_eq!(redact_about(message, line), shown);
    }
    assert_eq!(redact_about("'x' in 'bind'", "bind x"), "'x' in 'bind'");
}

#[test]
fn a_secret_that_goes_on_in_the_next_line_is_hidden() {
    for (before, line, shown) in [
        ("user bob insecure-password \\", "\tS3CR3T", "\t***"),
        ("user bob insecure-password \\ \r", "  S3CR3T groups g", "  ***"),
        ("  stats auth \\", "a:S3CR3T", "***"),
        ("user bob \\", "groups g", "groups g"),
        ("bind \\", "  :80", "  :80"),
        ("cluster-secret \\", "", ""),
    ] {
        assert!(is_continued(before));
        assert_eq!(redact_after(&joined("", before), line), shown, "of {line}");
    }
    let before = joined(&joined("", "user bob \\"), "password \\");
    assert_eq!(redact_after(&before, "S3CR3T"), HIDDEN);
    assert_eq!(redact_after("", "stats auth a:S3CR3T"), "stats auth ***");
    assert!(!is_continued("bind :80") && !is_continued(""));
}

#[test]
fn of_an_endless_line_nothing_is_shown() {
    let line = "stats auth \\\"".repeat(MAX_LINE);
    assert_eq!(redact(&line), HIDDEN);
    assert_eq!(redact(HIDDEN), HIDDEN);
    let line = &line[..MAX_LINE];
    assert!(!redact(line).contains("auth \\\""));
}
