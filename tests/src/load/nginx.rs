//! nginx, to compare with: the program that people would put in front of a folder of files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::{patience::wait_until, processes::terminate, scene::Scene};

/// A running nginx that serves a folder by GET and takes files by PUT.
pub struct Nginx {
    child: Child,
    /// What it serves.
    pub files: PathBuf,
    pub url: String,
}

impl Nginx {
    /// Starts it; `None` when it is not installed.
    pub fn start(scene: &Scene) -> Option<Self> {
        let program = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx"]
            .iter()
            .map(Path::new)
            .find(|path| path.is_file())?;
        let folder = scene.folder("nginx");
        let files = scene.folder("nginx/files");
        // Free now; nobody else in this program takes one meanwhile.
        let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = socket.local_addr().expect("its number").port();
        drop(socket);
        let user = if nix::unistd::geteuid().is_root() {
            "user root;"
        } else {
            ""
        };
        let configuration = folder.join("nginx.conf");
        // As Debian has it (`sendfile`, `tcp_nopush`, a worker for each core), and WebDAV's PUT.
        let text = format!(
            "daemon off; {user} worker_processes auto; pid {folder}/pid; error_log {folder}/error.log;\n\
             events {{ worker_connections 768; }}\n\
             http {{\n\
               access_log off; sendfile on; tcp_nopush on;\n\
               client_max_body_size 0; client_body_temp_path {folder}/incoming;\n\
               proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;\n\
               scgi_temp_path {folder}/s;\n\
               server {{ listen 127.0.0.1:{port}; root {files}; dav_methods PUT DELETE; }}\n\
             }}\n",
            folder = folder.display(),
            files = files.display(),
        );
        fs::write(&configuration, text).expect("a file for the configuration");
        let child = scene
            .command(program)
            .args(["-p".as_ref(), folder.as_os_str()])
            .args(["-e".as_ref(), folder.join("error.log").as_os_str()])
            .args(["-c".as_ref(), configuration.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx");
        let mut nginx = Self {
            child,
            files,
            url: format!("http://127.0.0.1:{port}"),
        };
        wait_until("nginx listens", || {
            let ended = nginx.child.try_wait().expect("its state");
            assert!(ended.is_none(), "nginx ended: see {}", folder.display());
            std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Some(nginx)
    }

    /// What it calls itself.
    pub fn version() -> String {
        let output = Command::new("nginx").arg("-v").output();
        let text = output.map(|output| output.stderr).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.rsplit(' ')
            .next()
            .unwrap_or_default()
            .trim()
            .to_owned()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        terminate(self.child.id() as i32);
        let _ = self.child.wait();
    }
}
