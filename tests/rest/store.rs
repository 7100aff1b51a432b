//! A database in a temporary directory, with a connection that carries out commands.

use watchpost::config::StorageConfig;
use watchpost::domain::ids::{CustomerId, DeviceSn, OrgId, PersonId};
use watchpost::domain::owner::Scope;
use watchpost::domain::presence::Patience;
use watchpost::domain::rule_seeds;
use watchpost::domain::time::UtcMillis;
use watchpost::storage::command::{
    Command, CommandError, CommandReply, NewBinding, NewToken, TokenKind, execute,
};
use watchpost::storage::database::{Conn, Database};
use watchpost::storage::migrate;

pub const NOW: UtcMillis = UtcMillis(1_800_000_000_000);

/// Devices that were seen at [`NOW`] or within 15 minutes before are there.
pub const PATIENCE: Patience = Patience { now: NOW, silent_after_s: 900 };

pub struct Store {
    pub conn: Conn,
    pub config: StorageConfig,
    /// Dropped last: the directory goes with it.
    pub dir: tempfile::TempDir,
}

impl Store {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let database_url = testkit::database::url(dir.path());
        let config = StorageConfig { data_dir: dir.path().into(), database_url, ..StorageConfig::default() };
        let database = Database::from_config(&config).expect("a path");
        migrate::prepare(&database, &rule_seeds::seeds(), NOW).expect("a schema");
        Self { conn: testkit::database::connect(&config), config, dir }
    }

    pub fn run(&mut self, command: Command) -> Result<CommandReply, CommandError> {
        run(&mut self.conn, command, NOW)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        testkit::database::forget(self.dir.path());
    }
}

pub fn run(conn: &mut Conn, command: Command, now: UtcMillis) -> Result<CommandReply, CommandError> {
    testkit::database::write(conn, |conn| execute(conn, command, now))
}

pub fn sn(text: &str) -> DeviceSn {
    DeviceSn::parse(text).expect("a serial")
}

pub fn customer(text: &str) -> CustomerId {
    CustomerId::parse(text).expect("a customer")
}

pub fn scope(text: &str) -> Scope {
    Scope::Customer(customer(text))
}

/// Device, customer, organisation, person.
pub fn binding(device: &str, to: &str, org: &str, person: &str) -> NewBinding {
    let named = |kind: &str, id: &str| Some(format!("{kind} {id}"));
    NewBinding {
        device_sn: sn(device),
        customer_id: customer(to),
        customer_name: named("Customer", to),
        org_id: Some(OrgId::parse(org).expect("an id")),
        org_name: named("Org", org),
        person_id: Some(PersonId::parse(person).expect("an id")),
        person_name: named("Person", person),
    }
}

pub fn bind(binding: NewBinding) -> Command {
    Command::PutBinding { binding, scope: Scope::All, actor: "ann".into() }
}

pub fn token(id: &str, text: &str, kind: TokenKind, customer_id: Option<&str>) -> NewToken {
    NewToken {
        token_id: id.into(),
        token_hash: watchpost::domain::identity::sha256(text.as_bytes()),
        name: id.into(),
        kind,
        customer_id: customer_id.map(customer),
        expires: None,
    }
}
