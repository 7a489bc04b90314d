//! What the fake GPU is, and what shall go wrong.

/// Words such as `capability=9.0 memory=1048576 fail=12:700`; see the fields.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `capability=9.0`
    pub capability: (i32, i32),
    /// `memory=BYTES` of the device.
    pub memory: u64,
    /// `ptx=8.7`: the newest PTX version that the driver reads.
    pub ptx: (u32, u32),
    /// `devices=0` for none.
    pub devices: i32,
    /// `fail=N:CODE`: the Nth call (from 0) returns that code and does nothing.
    pub fail: Option<(usize, u32)>,
    /// `fail=NAME:CODE`: every call of that function does.
    pub fail_named: Option<(String, u32)>,
    /// `corrupt=N`: the Nth copy from the device (from 0) has a wrong byte.
    pub corrupt: Option<usize>,
    /// `crash=KERNEL`: a launch of it ends the process.
    pub crash: Option<String>,
    /// `checks=0`: kernels run without the emulator's checks for races and unwritten memory, which is faster.
    pub checks: bool,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            capability: (9, 0),
            memory: 4 << 30,
            ptx: (9, 0),
            devices: 1,
            fail: None,
            fail_named: None,
            corrupt: None,
            crash: None,
            checks: true,
        }
    }
}

impl Config {
    /// Reads the words. The error names the first that is none.
    pub fn parse(words: &str) -> Result<Config, String> {
        let mut c = Config::default();
        for word in words.split_whitespace() {
            let bad = || format!("the fake driver does not know {word:?}");
            let (key, value) = word.split_once('=').ok_or_else(bad)?;
            let number = || value.parse::<u64>().map_err(|_| bad());
            match key {
                "capability" | "ptx" => {
                    let (a, b) = value.split_once('.').ok_or_else(bad)?;
                    let (a, b) = (a.parse::<u32>().map_err(|_| bad())?, b.parse::<u32>().map_err(|_| bad())?);
                    if key == "ptx" {
                        c.ptx = (a, b);
                    } else {
                        c.capability = (a as i32, b as i32);
                    }
                }
                "memory" => c.memory = number()?,
                "devices" => c.devices = number()? as i32,
                "corrupt" => c.corrupt = Some(number()? as usize),
                "crash" => c.crash = Some(value.into()),
                "checks" => c.checks = number()? != 0,
                "fail" => {
                    let (which, code) = value.split_once(':').ok_or_else(bad)?;
                    let code = code.parse().map_err(|_| bad())?;
                    match which.parse() {
                        Ok(n) => c.fail = Some((n, code)),
                        Err(_) => c.fail_named = Some((which.into(), code)),
                    }
                }
                _ => return Err(bad()),
            }
        }
        Ok(c)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_or_refused() {
        let c = Config::parse("capability=10.3 memory=5 ptx=8.6 devices=0 fail=3:700 fail=cuInit:100 corrupt=1 checks=0").unwrap();
        assert_eq!((c.capability, c.memory, c.ptx, c.devices), ((10, 3), 5, (8, 6), 0));
        assert_eq!((c.fail, c.fail_named, c.corrupt, c.checks), (Some((3, 700)), Some(("cuInit".into(), 100)), Some(1), false));
        for bad in ["x", "x=1", "capability=9", "fail=3", "memory=-1"] {
            assert!(Config::parse(bad).unwrap_err().contains(bad));
        }
    }
}
