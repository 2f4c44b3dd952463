//! The keys of TLS, under the names of Java's system properties. Here they stand in `broker.conf`, `namesrv.conf` or
//! behind `-D`; the file that `tls.config.file` names comes after them and wins, as in Java.
//! Source: `TlsSystemConfig.java`, `TlsHelper.extractTlsConfigFromFile`.

use std::{collections::BTreeMap, fmt, path::Path};

use super::TlsError;

/// Read where no other file is named, if it is there.
const DEFAULT_FILE: &str = "/etc/rocketmq/tls.properties";

/// `tls.server.mode`: which connections a server serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsMode {
    /// Plain ones only.
    Disabled,
    /// Both, told apart by the first byte.
    #[default]
    Permissive,
    /// TLS only.
    Enforcing,
}

impl fmt::Display for TlsMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disabled => "disabled",
            Self::Permissive => "permissive",
            Self::Enforcing => "enforcing",
        })
    }
}

/// `tls.server.need.client.auth`: whether a client must show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    /// It is not asked for one.
    #[default]
    None,
    /// It is asked and may have none.
    Optional,
    /// Without one it is refused.
    Require,
}

impl fmt::Display for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Optional => "optional",
            Self::Require => "require",
        })
    }
}

/// All that is set of TLS. Paths and passwords that are empty are not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// `tls.server.mode`.
    pub server_mode: TlsMode,
    /// `tls.enable`: whether this process' own calls use TLS; where it is not set, they do when the server is enforcing.
    pub client_enable: Option<bool>,
    /// `tls.test.mode.enable`: a self-signed certificate made at start, and trust in everyone.
    pub test_mode: bool,
    /// `tls.config.file`.
    pub config_file: String,
    /// `tls.server.need.client.auth`.
    pub server_need_client_auth: ClientAuth,
    /// `tls.server.keyPath`, PEM.
    pub server_key_path: String,
    /// `tls.server.keyPassword`.
    pub server_key_password: String,
    /// `tls.server.certPath`, PEM, the server's certificate first.
    pub server_cert_path: String,
    /// `tls.server.authClient`: verify certificates of clients against `server_trust_cert_path`.
    pub server_auth_client: bool,
    /// `tls.server.trustCertPath`, PEM.
    pub server_trust_cert_path: String,
    /// `tls.client.keyPath`, PEM.
    pub client_key_path: String,
    /// `tls.client.keyPassword`.
    pub client_key_password: String,
    /// `tls.client.certPath`, PEM.
    pub client_cert_path: String,
    /// `tls.client.authServer`: verify certificates of servers against `client_trust_cert_path`.
    pub client_auth_server: bool,
    /// `tls.client.trustCertPath`, PEM.
    pub client_trust_cert_path: String,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self {
            server_mode: TlsMode::default(),
            client_enable: None,
            test_mode: true,
            config_file: DEFAULT_FILE.to_owned(),
            server_need_client_auth: ClientAuth::None,
            server_key_path: String::new(),
            server_key_password: String::new(),
            server_cert_path: String::new(),
            server_auth_client: false,
            server_trust_cert_path: String::new(),
            client_key_path: String::new(),
            client_key_password: String::new(),
            client_cert_path: String::new(),
            client_auth_server: false,
            client_trust_cert_path: String::new(),
        }
    }
}

impl TlsSettings {
    /// Sets one key; false when it is none of TLS. A value that means nothing is refused, where Java takes it for the
    /// default: who writes `enforced` must not get `permissive`.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, TlsError> {
        let value = value.trim();
        match key {
            "tls.server.mode" => self.server_mode = mode(key, value)?,
            "tls.enable" => self.client_enable = Some(truth(key, value)?),
            "tls.config.file" => value.clone_into(&mut self.config_file),
            _ => return self.set_in_file(key, value),
        }
        Ok(true)
    }

    /// The keys that may stand in the file of `tls.config.file`.
    fn set_in_file(&mut self, key: &str, value: &str) -> Result<bool, TlsError> {
        match key {
            "tls.test.mode.enable" => self.test_mode = truth(key, value)?,
            "tls.server.need.client.auth" => self.server_need_client_auth = client_auth(key, value)?,
            "tls.server.authClient" => self.server_auth_client = truth(key, value)?,
            "tls.client.authServer" => self.client_auth_server = truth(key, value)?,
            "tls.server.keyPath" => value.clone_into(&mut self.server_key_path),
            "tls.server.keyPassword" => value.clone_into(&mut self.server_key_password),
            "tls.server.certPath" => value.clone_into(&mut self.server_cert_path),
            "tls.server.trustCertPath" => value.clone_into(&mut self.server_trust_cert_path),
            "tls.client.keyPath" => value.clone_into(&mut self.client_key_path),
            "tls.client.keyPassword" => value.clone_into(&mut self.client_key_password),
            "tls.client.certPath" => value.clone_into(&mut self.client_cert_path),
            "tls.client.trustCertPath" => value.clone_into(&mut self.client_trust_cert_path),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Applies the file of `tls.config.file`; answers what is worth a warning. The default file may be missing.
    pub fn read_file(&mut self) -> Result<Vec<String>, TlsError> {
        let path = self.config_file.clone();
        if path.is_empty() || (path == DEFAULT_FILE && !Path::new(&path).exists()) {
            return Ok(self.warnings());
        }
        let refused = |why: String| TlsError::File { key: "tls.config.file", path: path.clone().into(), why };
        let bytes = std::fs::read(&path).map_err(|error| refused(format!("cannot be read: {error}")))?;
        let mut warnings = Vec::new();
        for (key, value) in wire::properties::parse(&String::from_utf8_lossy(&bytes)) {
            let is_known = self.set_in_file(&key, value.trim()).map_err(|error| refused(error.to_string()))?;
            match key.as_str() {
                _ if is_known => {}
                "tls.server.mode" | "tls.enable" => warnings.push(format!(
                    "{key} has no effect in {path}; set it in the configuration file or with -D{key}={value}"
                )),
                _ => warnings.push(format!("configuration key {key} in {path} is unknown, it changes nothing")),
            }
        }
        warnings.extend(self.warnings());
        Ok(warnings)
    }

    /// Test mode passes over what an operator may believe to be in force.
    fn warnings(&self) -> Vec<String> {
        let paths = [
            ("tls.server.keyPath", &self.server_key_path),
            ("tls.server.certPath", &self.server_cert_path),
            ("tls.server.trustCertPath", &self.server_trust_cert_path),
            ("tls.client.keyPath", &self.client_key_path),
            ("tls.client.certPath", &self.client_cert_path),
            ("tls.client.trustCertPath", &self.client_trust_cert_path),
        ];
        let set = paths.into_iter().find(|(_, path)| self.test_mode && !path.is_empty());
        let text = |(key, _)| {
            format!(
                "tls.test.mode.enable is true: {key} is not used, the certificate is made at start and everyone is \
                 trusted; set tls.test.mode.enable=false"
            )
        };
        set.map(text).into_iter().collect()
    }

    /// Whether this process' own calls use TLS.
    pub fn is_client_enabled(&self) -> bool {
        self.client_enable.unwrap_or(self.server_mode == TlsMode::Enforcing)
    }

    /// All keys with their values, for those who look at the configuration. Passwords are not shown.
    pub fn entries(&self) -> BTreeMap<&'static str, String> {
        let hidden = |password: &String| if password.is_empty() { String::new() } else { "***".to_owned() };
        BTreeMap::from([
            ("tls.server.mode", self.server_mode.to_string()),
            ("tls.enable", self.is_client_enabled().to_string()),
            ("tls.config.file", self.config_file.clone()),
            ("tls.test.mode.enable", self.test_mode.to_string()),
            ("tls.server.need.client.auth", self.server_need_client_auth.to_string()),
            ("tls.server.keyPath", self.server_key_path.clone()),
            ("tls.server.keyPassword", hidden(&self.server_key_password)),
            ("tls.server.certPath", self.server_cert_path.clone()),
            ("tls.server.authClient", self.server_auth_client.to_string()),
            ("tls.server.trustCertPath", self.server_trust_cert_path.clone()),
            ("tls.client.keyPath", self.client_key_path.clone()),
            ("tls.client.keyPassword", hidden(&self.client_key_password)),
            ("tls.client.certPath", self.client_cert_path.clone()),
            ("tls.client.authServer", self.client_auth_server.to_string()),
            ("tls.client.trustCertPath", self.client_trust_cert_path.clone()),
        ])
    }
}

fn refuse<T>(key: &str, value: &str, expected: &'static str) -> Result<T, TlsError> {
    Err(TlsError::Value { key: key.to_owned(), value: value.to_owned(), expected })
}

fn truth(key: &str, value: &str) -> Result<bool, TlsError> {
    value.to_ascii_lowercase().parse().or_else(|_| refuse(key, value, "true or false"))
}

fn mode(key: &str, value: &str) -> Result<TlsMode, TlsError> {
    match value.to_ascii_lowercase().as_str() {
        "disabled" => Ok(TlsMode::Disabled),
        "permissive" => Ok(TlsMode::Permissive),
        "enforcing" => Ok(TlsMode::Enforcing),
        _ => refuse(key, value, "disabled, permissive or enforcing"),
    }
}

fn client_auth(key: &str, value: &str) -> Result<ClientAuth, TlsError> {
    match value.to_ascii_lowercase().as_str() {
        "" | "none" => Ok(ClientAuth::None),
        "optional" => Ok(ClientAuth::Optional),
        "require" => Ok(ClientAuth::Require),
        _ => refuse(key, value, "none, optional or require"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_those_of_java() {
        let settings = TlsSettings::default();
        assert!(settings.test_mode && !settings.is_client_enabled());
        assert_eq!((settings.server_mode, settings.server_need_client_auth), (TlsMode::Permissive, ClientAuth::None));
    }

    #[test]
    fn an_enforcing_server_calls_with_tls_unless_told_otherwise() {
        let mut settings = TlsSettings::default();
        assert!(settings.set("tls.server.mode", "Enforcing").unwrap());
        assert!(settings.is_client_enabled());
        settings.set("tls.enable", "false").unwrap();
        assert!(!settings.is_client_enabled());
    }

    #[test]
    fn wrong_values_are_refused_by_name() {
        for (key, value) in
            [("tls.server.mode", "enforced"), ("tls.enable", "yes"), ("tls.server.need.client.auth", "must")]
        {
            let error = TlsSettings::default().set(key, value).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(value), "{error}");
        }
        assert!(!TlsSettings::default().set("tls.nobody", "1").unwrap());
    }

    #[test]
    fn the_file_wins_and_what_it_cannot_do_is_told() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("tls.properties");
        let text = "tls.test.mode.enable=false\ntls.server.certPath=/b\ntls.server.mode=enforcing\ntls.x=1\n";
        std::fs::write(&path, text).unwrap();
        let mut settings = TlsSettings::default();
        settings.set("tls.server.certPath", "/a").unwrap();
        settings.set("tls.config.file", path.to_str().unwrap()).unwrap();
        let warnings = settings.read_file().unwrap();
        assert_eq!(settings.server_cert_path, "/b");
        assert!(!settings.test_mode && settings.server_mode == TlsMode::Permissive);
        assert!(warnings[0].contains("tls.server.mode") && warnings[1].contains("tls.x"), "{warnings:?}");
        assert_eq!(warnings.len(), 2);
    }

    #[test]
    fn a_named_file_that_is_missing_is_an_error_and_test_mode_is_told() {
        let mut settings = TlsSettings::default();
        settings.set("tls.server.certPath", "/a").unwrap();
        settings.config_file.clear();
        assert!(settings.read_file().unwrap()[0].contains("tls.server.certPath is not used"));
        settings.set("tls.config.file", "/nowhere/tls.properties").unwrap();
        let error = settings.read_file().unwrap_err().to_string();
        assert!(error.contains("tls.config.file") && error.contains("/nowhere"), "{error}");
    }

    #[test]
    fn passwords_are_not_shown() {
        let mut settings = TlsSettings::default();
        settings.set("tls.server.keyPassword", "secret").unwrap();
        assert!(!settings.entries().values().any(|value| value.contains("secret")));
    }
}
