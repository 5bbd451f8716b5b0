//! Certificates for tests of TLS, in the layout that QEMU, libnbd, nbdkit and Quod share. Other crates' tests take
//! this file in by its path.

use std::fs;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use tempfile::TempDir;

/// A directory with an authority, a server that answers to these names, and a client.
pub(crate) fn pki(server_names: &[&str]) -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: String| write(directory.path(), name, &text);
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority of this test");
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
    write("ca-cert.pem", authority.pem());
    for (who, names, purpose) in [
        ("server", server_names, ExtendedKeyUsagePurpose::ServerAuth),
        ("client", &["client"][..], ExtendedKeyUsagePurpose::ClientAuth),
    ] {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("good names");
        params.distinguished_name.push(DnType::CommonName, who);
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().expect("a key");
        write(&format!("{who}-cert.pem"), params.signed_by(&key, &authority).expect("signed").pem());
        write(&format!("{who}-key.pem"), key.serialize_pem());
    }
    directory
}

fn write(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join(name), text).expect("written");
}
