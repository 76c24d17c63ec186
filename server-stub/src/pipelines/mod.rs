//! Pipelines: their definitions, read from `*.gocd.yaml` files in git repositories.
