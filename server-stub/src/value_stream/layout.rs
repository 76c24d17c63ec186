//! Which column and row each node of a value stream stands in.

use std::collections::HashMap;

use super::{Node, NodeKind};

/// Puts nodes into columns so that each edge leads one column to the right: a longer one passes
/// through nodes that are made for it.
pub(super) fn levels(mut nodes: Vec<Node>, edges: &[(usize, usize)]) -> Vec<Vec<Node>> {
    let mut columns = columns(nodes.len(), edges);
    for &(from, to) in edges {
        let mut before = from;
        for column in columns[from] + 1..columns[to] {
            let id = format!("line-{from}-{to}-{column}");
            nodes.push(Node {
                id,
                kind: NodeKind::Line,
                parents: Vec::new(),
                dependents: Vec::new(),
                depth: 0,
            });
            columns.push(column);
            let made = nodes.len() - 1;
            join(&mut nodes, before, made);
            before = made;
        }
        join(&mut nodes, before, to);
    }
    let mut levels: Vec<Vec<Node>> = Vec::new();
    for (node, column) in nodes.into_iter().zip(columns) {
        if levels.len() <= column {
            levels.resize_with(column + 1, Vec::new);
        }
        levels[column].push(node);
    }
    levels.retain(|level| !level.is_empty());
    arrange(&mut levels);
    levels
}

/// The column of each node: what leads to the run that is asked for (the first node) stands as near
/// to it as can be, and so does what follows.
fn columns(count: usize, edges: &[(usize, usize)]) -> Vec<usize> {
    let backwards: Vec<(usize, usize)> = edges.iter().map(|&(from, to)| (to, from)).collect();
    let before = distances(count, &backwards);
    let after = distances(count, edges);
    let left = before.iter().flatten().max().copied().unwrap_or(0);
    let column = |(before, after): (Option<usize>, Option<usize>)| match (before, after) {
        (Some(before), _) => left - before,
        (None, after) => left + after.unwrap_or(0),
    };
    before.into_iter().zip(after).map(column).collect()
}

/// The length of the longest way from the first node to each that can be reached.
fn distances(count: usize, edges: &[(usize, usize)]) -> Vec<Option<usize>> {
    let mut distances = vec![None; count];
    if let Some(first) = distances.first_mut() {
        *first = Some(0);
    }
    // Definitions that changed over time may form a circle; no way is longer than all nodes.
    for _ in 0..count {
        let mut changed = false;
        for &(from, to) in edges {
            let Some(next) = distances[from].map(|distance| distance + 1) else {
                continue;
            };
            if to != 0 && next < count && distances[to] < Some(next) {
                distances[to] = Some(next);
                changed = true;
            }
        }
        if !changed {
            break;
        }
    }
    distances
}

fn join(nodes: &mut [Node], from: usize, to: usize) {
    let (parent, dependent) = (nodes[from].id.clone(), nodes[to].id.clone());
    nodes[from].dependents.push(dependent);
    nodes[to].parents.push(parent);
}

/// Sorts each column so that few lines cross, and numbers its rows.
fn arrange(levels: &mut [Vec<Node>]) {
    levels.iter_mut().for_each(|level| number(level));
    for place in (1..levels.len()).rev() {
        let rows = rows(&levels[place]);
        sort(&mut levels[place - 1], |node| mean(&node.dependents, &rows));
    }
    for place in 1..levels.len() {
        let rows = rows(&levels[place - 1]);
        sort(&mut levels[place], |node| mean(&node.parents, &rows));
    }
}

fn number(level: &mut [Node]) {
    for (place, node) in level.iter_mut().enumerate() {
        node.depth = place + 1;
    }
}

fn rows(level: &[Node]) -> HashMap<String, usize> {
    let rows = level.iter().map(|node| (node.id.clone(), node.depth));
    rows.collect()
}

fn sort(level: &mut [Node], row: impl Fn(&Node) -> Option<usize>) {
    level.sort_by_key(|node| row(node).unwrap_or(node.depth * SCALE));
    number(level);
}

/// Rows are compared in parts of one.
const SCALE: usize = 1000;

fn mean(ids: &[String], rows: &HashMap<String, usize>) -> Option<usize> {
    let rows: Vec<usize> = ids.iter().filter_map(|id| rows.get(id).copied()).collect();
    let count = rows.len();
    (count > 0).then(|| rows.iter().sum::<usize>() * SCALE / count)
}
