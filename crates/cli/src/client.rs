//! What a client tells of itself when it asks for a desktop: for the desktop, for programs in it, and for the
//! administrator's programs on the broker.

use std::{collections::BTreeMap, fs, path::Path};

use clap::Args;
use vsm_core::check_client_params;
use vsm_proto::session::v1::{Geometry, StartParams};

use crate::{
    exit::{Failure, USAGE},
    screen,
};

/// Options about what is told.
#[derive(Debug, Default, Args)]
pub struct ClientOptions {
    /// Pass KEY=VALUE to programs in the desktop; may be repeated
    #[arg(long = "param", value_name = "KEY=VALUE", value_parser = param)]
    params: Vec<(String, String)>,
    /// Do not send this machine's hardware (MAC) address
    #[arg(long)]
    no_hardware_address: bool,
}

/// Reads `KEY=VALUE`.
fn param(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("give it as KEY=VALUE")?;
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    let one = (format!("params/{key}"), value.to_owned());
    check_client_params(&BTreeMap::from([one.clone()])).map_err(|error| error.to_string())?;
    Ok(one)
}

impl ClientOptions {
    /// All that is told. A new desktop is as large as `geometry`, else as the screen.
    ///
    /// # Errors
    /// If there are more or longer parameters than may be, or one is given twice.
    pub fn tell(
        &self,
        geometry: Option<Geometry>,
        start_command: String,
        profile: String,
    ) -> Result<StartParams, Failure> {
        let screen = screen::size();
        let mut client = BTreeMap::new();
        for (key, value) in &self.params {
            if client.insert(key.clone(), value.clone()).is_some() {
                let key = key.trim_start_matches("params/");
                return Err(Failure::new(USAGE, format!("--param {key} is given twice")));
            }
        }
        client.extend(
            screen.map(|(width, height)| ("screen".to_owned(), format!("{width}x{height}"))),
        );
        if !self.no_hardware_address {
            client.extend(hardware_address().map(|mac| ("hardware_address".to_owned(), mac)));
        }
        check_client_params(&client).map_err(|error| Failure::new(USAGE, error.to_string()))?;
        let name = hostname::get().map(|name| name.to_string_lossy().into_owned());
        // One that is too large or too small for a desktop is not asked for.
        let fits = |(width, height): &(u32, u32)| vsm_core::Geometry::new(*width, *height).is_ok();
        let of_screen = || screen.filter(fits).map(|(width, height)| Geometry { width, height });
        Ok(StartParams {
            geometry: geometry.or_else(of_screen),
            start_command,
            language: language(),
            client_name: name.unwrap_or_default(),
            unvoted: false,
            client: client.into_iter().collect(),
            profile,
        })
    }
}

fn language() -> String {
    let set = ["LC_ALL", "LANG"].iter().filter_map(|name| std::env::var(name).ok());
    set.into_iter().find(|value| !value.is_empty()).unwrap_or_default()
}

/// The hardware address of the interface that leads out, or else the lowest of those that are up: always the same for
/// a machine that stays where it is.
fn hardware_address() -> Option<String> {
    let routes = fs::read_to_string("/proc/net/route").unwrap_or_default();
    let net = Path::new("/sys/class/net");
    let by_route = default_interface(&routes).and_then(|interface| address(&net.join(interface)));
    by_route.or_else(|| {
        let entries = fs::read_dir(net).ok()?.flatten();
        entries.filter_map(|entry| address(&entry.path())).min()
    })
}

/// The interface of the default route with the lowest metric, in the kernel's table.
fn default_interface(routes: &str) -> Option<&str> {
    routes
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (interface, to, metric) = (*fields.first()?, *fields.get(1)?, *fields.get(6)?);
            (to == "00000000").then_some((metric.parse::<u32>().ok()?, interface))
        })
        .min()
        .map(|(_, interface)| interface)
}

/// The hardware address of an interface that is up and has one.
fn address(interface: &Path) -> Option<String> {
    let read = |name: &str| fs::read_to_string(interface.join(name)).ok();
    let is_up = read("operstate").is_some_and(|state| state.trim() == "up");
    let address = read("address")?.trim().to_owned();
    let is_some = address.len() == 17 && address != "00:00:00:00:00:00";
    (is_up && is_some).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_key_and_value() {
        assert_eq!(param("room=12=a"), Ok(("params/room".to_owned(), "12=a".to_owned())));
        assert_eq!(param("room="), Ok(("params/room".to_owned(), String::new())));
        for bad in ["room", "=12", "Room=12", "a b=1", "room=1\n2"] {
            assert!(param(bad).is_err(), "{bad:?}");
        }
        assert!(param(&format!("room={}", "x".repeat(1025))).is_err());
    }

    #[test]
    fn all_of_them_are_bounded_and_none_comes_twice() {
        let options =
            |params: Vec<(String, String)>| ClientOptions { params, ..Default::default() };
        let one = |key: &str, value: &str| (format!("params/{key}"), value.to_owned());
        let twice = options(vec![one("a", "1"), one("a", "2")]);
        assert_eq!(
            twice.tell(None, String::new(), String::new()).unwrap_err().text,
            "--param a is given twice"
        );
        let many = options((0..65).map(|n| one(&format!("k{n}"), "")).collect());
        let failure = many.tell(None, String::new(), String::new()).unwrap_err();
        assert!(failure.text.contains("more than 64"), "{}", failure.text);
        let size = Geometry { width: 800, height: 600 };
        let told = options(vec![one("a", "1")])
            .tell(Some(size), "xterm".to_owned(), String::new())
            .unwrap();
        assert_eq!((told.geometry, told.client["params/a"].as_str()), (Some(size), "1"));
    }

    #[test]
    fn the_default_route_with_the_lowest_metric_leads_out() {
        let head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n";
        let line = |name: &str, to: &str, metric: u32| {
            format!("{name}\t{to}\t0100A8C0\t0003\t0\t0\t{metric}\t00000000\n")
        };
        let table = head.to_owned()
            + &line("docker0", "000011AC", 0)
            + &line("wlan0", "00000000", 600)
            + &line("eth0", "00000000", 100);
        assert_eq!(default_interface(&table), Some("eth0"));
        assert_eq!(default_interface(head), None);
    }

    #[test]
    fn an_interface_that_is_down_or_has_no_address_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let interface = |name: &str, state: &str, address: &str| {
            let path = dir.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("operstate"), format!("{state}\n")).unwrap();
            fs::write(path.join("address"), format!("{address}\n")).unwrap();
            path
        };
        let up = address(&interface("eth0", "up", "52:54:00:12:34:56"));
        assert_eq!(up.as_deref(), Some("52:54:00:12:34:56"));
        assert_eq!(address(&interface("eth1", "down", "52:54:00:12:34:57")), None);
        assert_eq!(address(&interface("lo", "up", "00:00:00:00:00:00")), None);
    }
}
