//! What TLS promises: nobody gets anything in the clear where it is required, and nothing in the clear passes for
//! encrypted.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

use quod_export::nbd::{ServerOptions, Tls, TlsClients, TlsMode};
use quod_nbd::*;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use support::pki::pki;
use support::{Client, Served};
use tempfile::TempDir;

type Encrypted = StreamOwned<ClientConnection, UnixStream>;

/// A directory of certificates: an authority, a server, a client.
struct Pki {
    directory: TempDir,
}

impl Pki {
    fn new() -> Self {
        Pki { directory: pki(&["localhost"]) }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn tls(&self, clients: TlsClients, mode: TlsMode) -> Tls {
        Tls::from_directory(self.path(), clients, mode).unwrap()
    }

    fn client(&self, certified: bool) -> ClientConfig {
        let read = |name: &str| fs::read(self.path().join(name)).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&read("ca-cert.pem")).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        if !certified {
            return config.with_no_client_auth();
        }
        let certificate = CertificateDer::from_pem_slice(&read("client-cert.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&read("client-key.pem")).unwrap();
        config.with_client_auth_cert(vec![certificate], key).unwrap()
    }
}

fn served(tls: Tls) -> Served {
    let mut options = ServerOptions::default();
    options.tls = Some(tls);
    Served::new(options)
}

/// Asks for TLS and begins it.
fn encrypt(mut client: Client, config: ClientConfig) -> Client<Encrypted> {
    client.option(OPT_STARTTLS, &[]);
    assert_eq!(client.option_reply(OPT_STARTTLS), (REP_ACK, vec![]));
    let connection = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    Client::on(StreamOwned::new(connection, client.stream))
}

fn go<S: Read + Write>(client: &mut Client<S>) -> u32 {
    client.option(OPT_GO, &ExportQuery { name: "", wanted: vec![] }.encode());
    loop {
        match client.option_reply(OPT_GO).0 {
            REP_INFO => {}
            last => return last,
        }
    }
}

#[test]
fn requests_and_replies_of_any_length_pass_through_tls() {
    let pki = Pki::new();
    let served = served(pki.tls(TlsClients::Any, TlsMode::Required));
    let mut client = encrypt(served.greeted(), pki.client(false));
    assert_eq!(go(&mut client), REP_ACK);
    let bytes: Vec<u8> = (0..MAX_PAYLOAD).map(|at| (at / 7) as u8).collect();
    for len in [1, 4096, 16_384, 16_385, 1 << 20, bytes.len()] {
        assert_eq!(client.write(12_345, &bytes[..len]), Ok(()));
        assert!(client.read(12_345, len as u32).unwrap() == bytes[..len], "{len} bytes");
    }
    // Many at a time, so that replies wait for the client.
    let cookies: Vec<_> = (0..60).map(|_| client.request(Command::Read, 0, 12_345, 1 << 20)).collect();
    for _ in &cookies {
        let (cookie, result) = client.reply();
        assert!(cookies.contains(&cookie) && result.is_ok());
        assert!(client.bytes(1 << 20) == bytes[..1 << 20]);
    }
    client.request(Command::Disconnect, 0, 0, 0);
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 0, "a farewell, not a cut");
}

#[test]
fn nothing_is_told_in_the_clear_where_tls_is_required() {
    let pki = Pki::new();
    let served = served(pki.tls(TlsClients::Any, TlsMode::Required));
    let mut client = served.greeted();
    for option in
        [OPT_LIST, OPT_INFO, OPT_GO, OPT_STRUCTURED_REPLY, OPT_EXTENDED_HEADERS, OPT_LIST_META_CONTEXT]
    {
        client.option(option, &[]);
        assert_eq!(client.option_reply(option).0, REP_ERR_TLS_REQD);
    }
    client.option(OPT_LIST, &[0; 1 << 20]);
    assert_eq!(client.option_reply(OPT_LIST).0, REP_ERR_TLS_REQD, "though it is too long as well");
    client.option(99, &[]);
    assert_eq!(client.option_reply(99).0, REP_ERR_TLS_REQD, "though nobody knows it");
    let mut encrypted = encrypt(client, pki.client(false));
    assert_eq!(go(&mut encrypted), REP_ACK);
    let mut client = served.greeted();
    client.option(OPT_EXPORT_NAME, &[]);
    client.is_disconnected();
    let mut client = served.greeted();
    client.option(OPT_ABORT, &[]);
    assert_eq!(client.option_reply(OPT_ABORT).0, REP_ACK);
}

#[test]
fn where_tls_is_offered_clients_choose() {
    let pki = Pki::new();
    let served = served(pki.tls(TlsClients::Any, TlsMode::Offered));
    let mut clear = served.client();
    let mut encrypted = encrypt(served.greeted(), pki.client(false));
    assert_eq!(go(&mut encrypted), REP_ACK);
    assert_eq!(encrypted.write(0, b"both see this"), Ok(()));
    assert_eq!(clear.read(0, 13).unwrap(), b"both see this");
}

#[test]
fn what_was_agreed_on_in_the_clear_is_forgotten() {
    let pki = Pki::new();
    let served = served(pki.tls(TlsClients::Any, TlsMode::Offered));
    let mut client = served.greeted();
    client.option(OPT_STRUCTURED_REPLY, &[]);
    assert_eq!(client.option_reply(OPT_STRUCTURED_REPLY).0, REP_ACK);
    let mut client = encrypt(client, pki.client(false));
    client.option(OPT_STARTTLS, &[]);
    assert_eq!(client.option_reply(OPT_STARTTLS).0, REP_ERR_INVALID, "TLS within TLS");
    assert_eq!(go(&mut client), REP_ACK);
    assert_eq!(client.read(0, 512).unwrap(), [0; 512], "a simple reply");
}

#[test]
fn bytes_that_come_in_the_clear_behind_starttls_end_the_connection() {
    let pki = Pki::new();
    let served = served(pki.tls(TlsClients::Any, TlsMode::Offered));
    let mut client = served.greeted();
    let mut both = OptionHeader { option: OPT_STARTTLS, length: 0 }.encode().to_vec();
    both.extend(OptionHeader { option: OPT_LIST, length: 0 }.encode());
    client.send(&both);
    client.is_disconnected();
    let mut client = served.greeted();
    client.option(OPT_STARTTLS, b"data");
    assert_eq!(client.option_reply(OPT_STARTTLS).0, REP_ERR_INVALID);
    served.still_serves();
}

#[test]
fn clients_without_a_certificate_are_sent_away_where_one_is_asked_for() {
    let pki = Pki::new();
    let served = served(pki.tls(TlsClients::Certified, TlsMode::Required));
    let mut certified = encrypt(served.greeted(), pki.client(true));
    assert_eq!(go(&mut certified), REP_ACK);
    assert_eq!(certified.read(0, 512).unwrap(), [0; 512]);
    let stranger = Pki::new();
    for (name, config) in [
        ("none", pki.client(false)),
        ("another authority's", {
            let mut config = stranger.client(true);
            config.dangerous().set_certificate_verifier(Arc::new(trusting::Anybody));
            config
        }),
    ] {
        let mut client = encrypt(served.greeted(), config);
        let written = client.stream.write_all(&OptionHeader { option: OPT_LIST, length: 0 }.encode());
        let read = written.and_then(|()| client.stream.read_exact(&mut [0; 20]));
        assert!(read.is_err(), "{name}");
    }
    assert_eq!(certified.read(0, 512).unwrap(), [0; 512], "others are not touched");
}

#[test]
fn nonsense_in_the_place_of_tls_ends_the_connection_and_nothing_else() {
    let pki = Pki::new();
    let served = served(pki.tls(TlsClients::Any, TlsMode::Offered));
    for nonsense in [&[0; 100][..], b"GET / HTTP/1.1\r\n\r\n", &[22, 3, 1, 255, 255, 1, 2, 3]] {
        let mut client = served.greeted();
        client.option(OPT_STARTTLS, &[]);
        assert_eq!(client.option_reply(OPT_STARTTLS).0, REP_ACK);
        client.send(nonsense);
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let ended = client.stream.read_to_end(&mut rest);
        assert!(ended.is_err() || rest.len() < 100, "{rest:?}");
    }
    served.still_serves();
}

#[test]
fn wrong_files_are_told_by_name() {
    let pki = Pki::new();
    let told = |clients| Tls::from_directory(pki.path(), clients, TlsMode::Offered).unwrap_err().to_string();
    fs::write(pki.path().join("ca-cert.pem"), "nothing").unwrap();
    assert!(told(TlsClients::Certified).contains("ca-cert.pem: no certificate"));
    fs::copy(pki.path().join("client-key.pem"), pki.path().join("server-key.pem")).unwrap();
    assert!(told(TlsClients::Any).contains("server-key.pem: "), "it belongs to another certificate");
    fs::copy(pki.path().join("server-cert.pem"), pki.path().join("server-key.pem")).unwrap();
    assert!(told(TlsClients::Any).contains("server-key.pem: no private key"));
    fs::write(pki.path().join("server-key.pem"), vec![b'\n'; 5 << 20]).unwrap();
    assert!(told(TlsClients::Any).contains("server-key.pem: longer than"));
    fs::remove_file(pki.path().join("server-key.pem")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", pki.path().join("server-key.pem")).unwrap();
    assert!(told(TlsClients::Any).contains("server-key.pem: not a regular file"));
    fs::remove_file(pki.path().join("server-key.pem")).unwrap();
    assert!(told(TlsClients::Any).contains("server-key.pem: No such file"));
    fs::write(pki.path().join("server-cert.pem"), [0xff; 9]).unwrap();
    assert!(told(TlsClients::Any).contains("server-cert.pem: "));
}

/// A client that trusts any server.
mod trusting {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    #[derive(Debug)]
    pub(crate) struct Anybody;

    impl ServerCertVerifier for Anybody {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            Ok(ServerCertVerified::assertion())
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            Ok(HandshakeSignatureValid::assertion())
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
        }
    }
}
