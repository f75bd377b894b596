use std::sync::Arc;
use std::time::*;
use wharf::plugin::manifest::*;
use wharf::plugin::*;
#[derive(Debug)]
struct NoEp;
impl state::Endpoints for NoEp {
    fn endpoints(&self) -> Vec<state::Endpoint> {
        vec![]
    }
}
fn main() {
    let path = std::env::args().nth(1).unwrap();
    let n: usize = std::env::args().nth(2).map_or(1, |s| s.parse().unwrap());
    let uri = std::env::args().nth(3).unwrap_or("http://localhost/protocol".into());
    let engines = Arc::new(engine::Engines::new().unwrap());
    let t = Instant::now();
    let builder =
        program::Builder::new(engines.clone(), code_cache::CodeCache::open("/tmp/w/cc".into()))
            .unwrap();
    println!("builder {:?}", t.elapsed());
    let rt = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let drain = wharf::drain::Drain::new();
    let states = Arc::new(wharf::http::conn::ConnStates::default());
    let services = Arc::new(state::Services {
        upstream: Arc::new(wharf::upstream::Upstream {}),
        states: states.clone(),
        endpoints: Arc::new(NoEp),
    });
    let platform = platform::Platform {
        builder,
        cores: vec![rt.handle().clone()],
        lane: Arc::new(lane::Lane::new(2).unwrap()),
        drain: drain.clone(),
        services: services.clone(),
    };
    let manifest = Arc::new(Manifest {
        routes: vec![],
        strip_prefix: None,
        middleware: vec![],
        capabilities: Default::default(),
        config: Default::default(),
        limits: PluginLimits {
            memory: 64 << 20,
            request_timeout: Duration::from_secs(3),
            cpu_time: Duration::from_secs(1),
            concurrency: 256,
            body: 10 << 20,
        },
        instances: Instances { mode: None, reuse: 1024, concurrent: 16 },
    });
    let bytes = std::fs::read(&path).unwrap();
    let version = blake3::hash(&bytes).to_hex().to_string();
    let world = world::World {};
    for tier in [engine::Tier::Baseline, engine::Tier::Optimised] {
        let t = Instant::now();
        platform
            .builder
            .build(&version, &bytes, &manifest, &world, tier)
            .map(|_| ())
            .unwrap_or_else(|e| println!("{e}"));
        println!("{tier:?} {:?}", t.elapsed());
    }
    let t = Instant::now();
    let program = platform
        .builder
        .build(&version, &bytes, &manifest, &world, engine::Tier::Optimised)
        .unwrap();
    println!("cached {:?}", t.elapsed());
    let env = state::Environment {
        name: "x".into(),
        manifest: manifest.clone(),
        variables: vec![],
        outbound: Arc::new(wharf::upstream::OutboundGrants {}),
        log: Arc::new(log::PluginLog {}),
        services,
    };
    let plugin = Plugin::new(&platform, version.into(), world, program, env);
    rt.block_on(async {
        use http_body_util::BodyExt;
        let conn = wharf::http::conn::Conn::new(
            0,
            "127.0.0.1:1".parse().unwrap(),
            "127.0.0.1:2".parse().unwrap(),
            wharf::http::conn::Protocol::H1,
            None,
            states,
        );
        let t = Instant::now();
        for i in 0..n {
            let ex = exchange::Exchange::new("id", &conn, &"GET /x".into());
            let mut req =
                http::Request::new(guest_body(&ex, wharf::http::body::RequestBody::empty()));
            *req.uri_mut() = uri.parse().unwrap();
            let r = plugin.call(0, &ex, None, wharf::admit::Permit::unlimited(), req).await;
            match r {
                Ok(r) => {
                    let (p, b) = r.into_parts();
                    let b = b.collect().await;
                    if i == 0 {
                        println!("{p:?} {:?}", b.map(|b| b.to_bytes()));
                        println!("first {:?}", t.elapsed());
                    }
                }
                Err(e) => {
                    println!("ERR {e} after {:?}", t.elapsed());
                    if n == 1 {
                        break;
                    }
                }
            }
        }
        println!("{:?} each, instances {}", t.elapsed() / n as u32, plugin.instances());
    });
}
