//! URLs of stores: what is wrong with one, what was probably meant, and that no secret is shown.

use headstart::store::{Guard, connect};

use super::redis::{patient, refusal};
use crate::support::object_server::ObjectServer;
use crate::support::redis::Redis;

#[test]
fn no_part_of_a_url_reveals_a_secret() {
    let table = [
        "redis://s3cret@localhost",
        "redis://ann:s3cret@localhost/nine",
        "redis://:s3cret@localhost/nine",
        "redis://localhost/s3cret",
        "redis://localhost/?password=s3cret",
        "redis://localhost/?s3cret",
        "redis://localhost/?password_file=s3cret",
        "redis://ann:s3cret@localhost/?password_file=/nowhere",
        "s3://key@bucket?secret_file=s3cret",
        "s3://key:s3cret@bucket?secret_file=/nowhere",
        "s3://bucket?secret_file=s3cret",
        "redis://localhost/?prefix=s3cret!",
        "redis://localhost/nine#s3cret",
        "redis://ann:s3cret@",
        "redis:ann:s3cret@localhost",
        "valkey://s3cret:@localhost",
        "rediss://ann:s3cret@localhost?ca=/nowhere.pem",
        "ftp://ann:s3cret@localhost/s3cret?s3cret",
        "s3cret",
        "s3://s3cret@bucket",
        "s3://:s3cret@bucket",
        "s3://key:s3cret@bucket/s3cret?endpoint=ftp://s3cret@host",
        "s3://key:s3cret@bucket?endpoint=http://s3cret@ho st",
        "https://ann:s3cret@localhost/",
        "https://localhost/?token=s3cret",
        "ann:s3cret@localhost:6379",
        "ann:s3cret@localhost:6379/2",
        "s3cret@localhost",
        "ann:s3cret:6379",
        "[s3cret]:6379",
        "localhost:6379/s3cret",
        "localhost:6379?password=s3cret",
        "localhost:6379#s3cret",
        "/run/s3cret.sock",
        "file:///run/s3cret",
        "unix:///run/s3cret.sock",
    ];
    for url in table {
        let problem = refusal(url);
        assert!(!problem.contains("s3cret"), "{url}: {problem}");
    }
}

#[test]
fn invalid_urls_are_refused_with_advice() {
    let table = [
        ("", "write redis://HOST:PORT"),
        ("redis", "write redis://HOST:PORT"),
        ("ftp://somewhere", "use redis://"),
        ("redis://", "names no host"),
        ("redis:///3", "names no host"),
        ("redis://localhost/three", "write a number"),
        ("redis://localhost/?perfix=a", "is not known; there are prefix, ca"),
        ("redis://localhost/?prefix=a*", "letters, digits"),
        ("redis://localhost/?ca=file.pem", "write rediss://"),
        ("rediss://localhost/?ca=/nowhere.pem", "name a PEM file"),
        ("redis://ann@localhost", "without a password"),
        ("localhost:6399", "it has no scheme; write redis://localhost:6399"),
        ("  localhost:6399 ", "write redis://localhost:6399"),
        ("localhost:6399/2", "write redis://localhost:6399/2"),
        ("127.0.0.1:6399", "write redis://127.0.0.1:6399"),
        ("[::1]:6399", "write redis://[::1]:6399"),
        ("ann:pass@kv.example.org:6399", "write redis://…@kv.example.org:6399"),
        ("localhost", "write redis://HOST:PORT, s3://BUCKET"),
        ("localhost:high", "write redis://HOST:PORT, s3://BUCKET"),
        ("/srv/kv", "a directory is for --cache-dir"),
        ("kv/team", "a directory is for --cache-dir"),
        ("./kv", "a directory is for --cache-dir"),
        ("C:\\kv", "a directory is for --cache-dir"),
        ("C:/kv", "a directory is for --cache-dir"),
        ("file:///srv/kv", "a directory is for --cache-dir"),
        ("unix:///run/redis.sock", "a directory is for --cache-dir"),
        ("redis:localhost:6399", "names no host; write redis://HOST:PORT"),
        ("rediss:/localhost", "names no host; write rediss://HOST:PORT"),
        ("s3:bucket/kv", "names no bucket; write s3://BUCKET/PREFIX"),
        ("tcp://localhost:6399", "use redis://"),
    ];
    for (url, about) in table {
        let problem = refusal(url);
        assert!(problem.contains(about), "{url}: {problem}");
    }
}

#[test]
fn a_redis_that_is_asked_through_http_is_recognised() {
    let redis = Redis::start(&[]);
    let told = |port: u16| connect(&format!("http://127.0.0.1:{port}"), &Guard::Trust, &patient()).unwrap().problem();
    let problem = told(redis.port).unwrap();
    assert!(problem.contains("if it is a Redis, write redis://HOST:PORT"), "{problem}");
    assert_eq!(told(ObjectServer::start(None).port), None);
}
