//! More than a service can do: who is answered is answered soon, the others are told when to come back, and nobody beside
//! it notices.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use busway_tests::programs;
use busway_types::{Clock as _, SystemClock};

use crate::gateway::{Told, get};
use crate::harness::App;
use crate::process::PATIENCE;

use super::curl::curl;
use super::doors::ready;
use super::{in_flight, until};

/// One answer: its status, how long it took, and what it says about coming back.
struct Answered {
    status: u16,
    took: Duration,
    retry_after: Option<String>,
    body: String,
}

fn timed(agent: &ureq::Agent, clock: &SystemClock, url: &str) -> Answered {
    let began = clock.monotonic_ns();
    let mut response = agent.get(url).call().expect("an answer");
    let body = response.body_mut().read_to_string().expect("text");
    let took = Duration::from_nanos(clock.monotonic_ns() - began);
    let retry_after = response.headers().get("retry-after").map(|value| value.to_str().expect("text").to_owned());
    Answered { status: response.status().as_u16(), took, retry_after, body }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into()
}

/// Many clients that ask for the same until so many were answered with what they wanted.
fn storm(url: &str, clients: usize, wanted: usize) -> Vec<Answered> {
    let (answers, served) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            let (answers, served, url) = (answers.clone(), served.clone(), url.to_owned());
            std::thread::spawn(move || {
                let (agent, clock) = (agent(), SystemClock::new());
                while served.load(Ordering::Relaxed) < wanted {
                    let answered = timed(&agent, &clock, &url);
                    if answered.status == 200 {
                        served.fetch_add(1, Ordering::Relaxed);
                    } else {
                        // Less than it was told, and far more often than the service could answer.
                        std::thread::sleep(Duration::from_millis(50));
                    }
                    answers.lock().expect("a lock").push(answered);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().expect("it asks");
    }
    std::mem::take(&mut *answers.lock().expect("a lock"))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Routes to a component that takes two requests at a time and lets two wait, and to a function with one instance.
fn narrow() -> App {
    let app = App::new();
    app.write("page.html", b"<p>a page</p>");
    let manifest = format!(
        "[services.web]\ncomponent = {:?}\ntimeout = \"20s\"\nhttp = {{ concurrency = 2, queue = 2 }}\n\
         [services.answerer]\ncomponent = {:?}\nconcurrency = 1\n\
         [gateway]\nlisten = \"127.0.0.1:0\"\n[gateway.rate]\nrequests = \"100000/s\"\n\
         [[gateway.routes]]\npath = \"/web/{{*rest}}\"\nservice = \"web\"\n\
         [[gateway.routes]]\npath = \"/page\"\nfile = \"page.html\"\n\
         [[gateway.routes]]\npath = \"/quotes/{{about}}\"\nmethod = \"GET\"\nrequest = \"test:values/quotes.quote\"\n\
         timeout = \"2s\"\n",
        programs::WEB,
        programs::ANSWERER
    );
    app.write("busway.toml", manifest.as_bytes());
    app
}

/// With 24 clients whose requests all waited, each would take twelve times as long as alone: 3 s.
#[test]
fn beyond_what_a_component_can_do_others_are_refused_before_everybody_waits() {
    let app = narrow();
    let told = Told::start(&app, &[]);
    let url = ready(&told);
    let slow = format!("{url}/web/wait?250");
    let storm = std::thread::spawn(move || storm(&slow, 24, 24));
    let mut beside = Vec::new();
    let (agent, clock) = (agent(), SystemClock::new());
    while !storm.is_finished() {
        let page = timed(&agent, &clock, &format!("{url}/page"));
        assert_eq!((page.status, page.body.as_str()), (200, "<p>a page</p>"));
        beside.push(page.took);
    }
    let answers = storm.join().expect("it is over");
    let (served, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answered| answered.status == 200);
    assert!(served.len() >= 24 && refused.len() >= 24, "{} served, {} refused", served.len(), refused.len());
    for refusal in &refused {
        assert_eq!((refusal.status, refusal.retry_after.as_deref()), (503, Some("1")), "{}", refusal.body);
        assert!(refusal.body.contains("urn:busway:problem:overloaded"), "{}", refusal.body);
    }
    let took = |answers: &[Answered]| median(answers.iter().map(|answered| answered.took).collect());
    let (waited, told_off, beside) = (took(&served), took(&refused), median(beside));
    assert!(waited < Duration::from_millis(1_500), "who is let in waits for {waited:?}");
    assert!(told_off < Duration::from_millis(500) && beside < Duration::from_millis(500), "{told_off:?} {beside:?}");
}

#[test]
fn beyond_what_a_function_can_do_others_are_refused_and_nobody_waits_longer_than_the_route_says() {
    let app = narrow();
    let told = Told::start(&app, &[]);
    let slow = format!("{}/quotes/wait?key=k&n=250", ready(&told));
    let asking: Vec<_> = (0..100)
        .map(|_| {
            let slow = slow.clone();
            std::thread::spawn(move || timed(&agent(), &SystemClock::new(), &slow))
        })
        .collect();
    let answers: Vec<Answered> = asking.into_iter().map(|asking| asking.join().expect("asked")).collect();
    let of = |status: u16| answers.iter().filter(move |answered| answered.status == status);
    let counts = [200, 503, 504].map(|status| of(status).count());
    assert_eq!(counts.iter().sum::<usize>(), 100);
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?} answered, refused, given up");
    assert!(of(503).all(|refused| refused.retry_after.as_deref() == Some("1")));
    assert!(of(200).all(|served| served.took < Duration::from_secs(10)), "its own time is two seconds");
    assert_eq!(curl(&[&slow]).status, 200, "and it is over when they are gone");
}

/// Two services answer the same function, one request each at a time.
#[test]
fn a_request_goes_where_the_least_is_to_be_done() {
    let app = App::new();
    let service = |name: &str| {
        format!("[services.{name}]\ncomponent = {:?}\nconcurrency = 1\ntimeout = \"30s\"\n", programs::ANSWERER)
    };
    let route = "[gateway]\nlisten = \"127.0.0.1:0\"\n[[gateway.routes]]\npath = \"/quotes/{about}\"\nmethod = \"GET\"\n\
                 request = \"test:values/quotes.quote\"\n";
    app.write("busway.toml", format!("{}{}{route}", service("one"), service("two")).as_bytes());
    let told = Told::start(&app, &[]);
    let url = ready(&told);
    let long = format!("{url}/quotes/wait?key=k&n=8000");
    let long = std::thread::spawn(move || get(&long).expect("an answer"));
    until("it is begun", || in_flight(&told) >= 1);
    for n in 0..40 {
        let quick = get(&format!("{url}/quotes/double?key=k&n={n}")).expect("an answer");
        assert_eq!(quick, (200, (n * 2).to_string()));
    }
    assert!(!long.is_finished(), "nobody waited behind the long one");
    assert_eq!(long.join().expect("asked"), (200, "8000".to_owned()));
}
