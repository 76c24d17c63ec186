use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use jiff::Timestamp;
use pretty_assertions::assert_eq;

use super::*;
use crate::{
    clock::SystemClock,
    configuration::Paths,
    database, durable,
    scheduling::tests::{Scene, serve},
    start::Running,
    users::Login,
};

/// A run with a console and an artifact, on a server that goes on running.
async fn scene() -> (Scene, Paths, i64) {
    let scene = Scene::new().await;
    scene.trigger().await;
    let app = scene.app();
    let job: i64 = sqlx::query_scalar("SELECT min(id) FROM jobs")
        .fetch_one(app.database.readers())
        .await
        .unwrap();
    fs::write(app.paths.consoles().join(format!("{job}.log")), "hello\n").unwrap();
    let artifacts = app.paths.artifacts(job);
    fs::create_dir_all(artifacts.join("pkg")).unwrap();
    fs::write(artifacts.join("pkg/a.txt"), "an artifact").unwrap();
    let mut write = app.database.write().await.unwrap();
    sqlx::query(
        "INSERT INTO artifacts (job_id, path, size, sha256) VALUES ($1, 'pkg/a.txt', 11, 'x')",
    )
    .bind(job)
    .execute(&mut *write)
    .await
    .unwrap();
    write.commit().await.unwrap();
    let paths = app.paths.clone();
    (scene, paths, job)
}

async fn start(data: &Path) -> Running {
    serve(data, Login::Off, Arc::new(SystemClock)).await
}

async fn later(running: &Running) -> Option<String> {
    let mut reader = running.app.database.readers().acquire().await.unwrap();
    database::setting(&mut reader, "later").await.unwrap()
}

#[tokio::test]
async fn what_was_backed_up_beside_a_running_server_is_whole_when_restored() {
    let (scene, paths, job) = scene().await;
    let folder = tempfile::tempdir().unwrap();
    for name in ["backup.tar.zst", "backup"] {
        let place = folder.path().join(name);
        let made = create(&paths, &place, Timestamp::now()).await.unwrap();
        assert_eq!((&made.place, made.missing.len()), (&place, 0));
        assert!(matches!(
            fs::metadata(&place).unwrap().permissions().mode() & 0o777,
            0o600 | 0o700
        ));
        // What happens from now on is not in it.
        let mut write = scene.app().database.write().await.unwrap();
        database::store_setting(&mut write, "later", "yes")
            .await
            .unwrap();
        write.commit().await.unwrap();
        fs::write(
            paths.consoles().join(format!("{job}.log")),
            "hello\nagain\n",
        )
        .unwrap();

        let data = folder.path().join(format!("data-of-{name}"));
        let restored = restore(&place, &Paths::new(data.clone(), None), false)
            .await
            .unwrap();
        assert_eq!((restored.files, restored.bytes), (made.files, made.bytes));
        let copy = Paths::new(data.clone(), None);
        assert_eq!(
            fs::read(copy.artifacts(job).join("pkg/a.txt")).unwrap(),
            b"an artifact"
        );
        let running = start(&data).await;
        assert_eq!(later(&running).await.is_some(), name == "backup");
        running.stop().await;
        fs::write(paths.consoles().join(format!("{job}.log")), "hello\n").unwrap();
        let console = fs::read_to_string(copy.consoles().join(format!("{job}.log"))).unwrap();
        assert_eq!(console, "hello\n");
        let left = fs::read_dir(folder.path()).unwrap();
        assert!(
            left.map(|item| item.unwrap().file_name())
                .all(|name| !name.to_string_lossy().contains(".partial"))
        );
    }
    // A folder that is there gets another in it, and no place is written twice.
    let place = folder.path().join("backup.tar.zst");
    assert!(matches!(
        create(&paths, &place, Timestamp::now()).await,
        Err(BackupError::Exists(_))
    ));
    let made = create(&paths, folder.path(), Timestamp::UNIX_EPOCH).await;
    assert!(made.unwrap().place.ends_with("journeyman-19700101T000000Z"));
}

#[tokio::test]
async fn a_folder_in_use_or_not_empty_is_left_alone_unless_told() {
    let (scene, paths, _) = scene().await;
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("backup");
    create(&paths, &place, Timestamp::now()).await.unwrap();
    for replace in [false, true] {
        assert!(matches!(
            restore(&place, &paths, replace).await,
            Err(BackupError::InUse(_))
        ));
    }
    let data = folder.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("mine"), "").unwrap();
    let other = Paths::new(data.clone(), None);
    assert!(matches!(
        restore(&place, &other, false).await,
        Err(BackupError::NotEmpty(_))
    ));
    assert!(data.join("mine").exists());
    restore(&place, &other, true).await.unwrap();
    assert!(!data.join("mine").exists() && other.database().exists());
    assert!(!beside(&data, ".restoring").exists());
    drop(scene);
}

#[tokio::test]
async fn a_damaged_backup_restores_nothing() {
    let (scene, paths, job) = scene().await;
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("backup");
    create(&paths, &place, Timestamp::now()).await.unwrap();
    let data = Paths::new(folder.path().join("data"), None);
    let artifact = place.join(format!("blobs/artifacts/{job}/pkg/a.txt"));

    durable::write(&artifact, b"a forgery!!", 0o600).unwrap();
    let error = restore(&place, &data, false).await.unwrap_err();
    assert!(matches!(error, BackupError::Broken(_)), "{error}");
    fs::remove_file(&artifact).unwrap();
    assert!(matches!(
        restore(&place, &data, false).await,
        Err(BackupError::Broken(_))
    ));
    durable::write(&artifact, b"an artifact", 0o600).unwrap();
    fs::write(place.join("more"), "").unwrap();
    assert!(matches!(
        restore(&place, &data, false).await,
        Err(BackupError::Broken(_))
    ));
    fs::remove_file(place.join("more")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", place.join("link")).unwrap();
    assert!(restore(&place, &data, false).await.is_err());
    fs::remove_file(place.join("link")).unwrap();
    fs::write(place.join(MANIFEST), "{}").unwrap();
    assert!(matches!(
        restore(&place, &data, false).await,
        Err(BackupError::NotABackup { .. })
    ));
    assert!(!data.data.exists() && !beside(&data.data, ".restoring").exists());
    drop(scene);
}

#[tokio::test]
async fn what_has_gone_from_the_disk_is_named() {
    let (scene, paths, job) = scene().await;
    fs::remove_file(paths.artifacts(job).join("pkg/a.txt")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let made = create(&paths, &folder.path().join("b.tar.zst"), Timestamp::now())
        .await
        .unwrap();
    assert_eq!(made.missing, [format!("blobs/artifacts/{job}/pkg/a.txt")]);
    drop(scene);
}

#[tokio::test]
async fn a_running_server_is_asked_for_a_backup() {
    use http::Method;
    let (scene, paths, _) = scene().await;
    let app = scene.app();
    let client = reqwest::Client::new();
    let call = |method: Method, path: &str| {
        let url = format!("{}/api/backups{path}", app.endpoints.http_url);
        let request = client.request(method, url);
        request.header("X-GoCD-Confirm", "true").send()
    };
    for (path, expected) in [("/1", 404), ("/running", 404), ("/x", 400)] {
        let answer = call(Method::GET, path).await.unwrap();
        assert_eq!(answer.status(), expected, "{path}");
    }
    let asked = call(Method::POST, "").await.unwrap();
    assert_eq!(asked.status(), 202);
    assert_eq!(asked.headers()["location"], "/go/api/backups/1");
    assert_eq!(asked.headers()["retry-after"], "5");
    let mut changed = app.state_changed.subscribe();
    let made = loop {
        let answer = call(Method::GET, "/1").await.unwrap();
        let kind = answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned();
        assert!(kind.starts_with("application/vnd.go.cd.v2+json"), "{kind}");
        let made: serde_json::Value = answer.json().await.unwrap();
        if made["status"] != "IN_PROGRESS" {
            break made;
        }
        changed.raised().await;
    };
    assert_eq!(made["status"], "COMPLETED", "{made}");
    assert_eq!(made["user"]["login_name"], "anonymous");
    let place = std::path::PathBuf::from(made["path"].as_str().unwrap());
    assert!(place.starts_with(paths.backups()), "{made}");
    // It is one, and a restore of it over the same folder leaves it there.
    let Scene { running, data, .. } = scene;
    running.stop().await;
    let restored = restore(&place, &paths, true).await.unwrap();
    assert_eq!(restored.missing.len(), 0);
    assert!(place.is_file());

    // One that was under way when the server ended is none.
    let running = start(data.path()).await;
    let mut write = running.app.database.write().await.unwrap();
    sqlx::query(
        "INSERT INTO backups (started_at, started_by, path, status, message) VALUES (0, 'a', 'b', 'IN_PROGRESS', '')",
    )
    .execute(&mut *write)
    .await
    .unwrap();
    assert!(asked::running(&mut write).await.unwrap().is_some());
    write.commit().await.unwrap();
    assert_eq!(asked::ask(&running.app, "b").await.unwrap(), None);
    running.stop().await;
    let running = start(data.path()).await;
    let mut reader = running.app.database.readers().acquire().await.unwrap();
    let last = asked::latest(&mut reader, 1).await.unwrap().remove(0);
    assert_eq!(last.status, "ABORTED");
    drop(reader);
    running.stop().await;
}
