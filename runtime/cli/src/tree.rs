//! Plain trees.

use crate::output;

/// A line with what belongs below it.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    pub(crate) text: String,
    pub(crate) below: Vec<Tree>,
}

/// What a tree is drawn with: for a branch, the last one, below a branch, below the last one.
const BOXES: [&str; 4] = ["├─ ", "└─ ", "│  ", "   "];
const ASCII: [&str; 4] = ["|- ", "`- ", "|  ", "   "];

impl Tree {
    pub(crate) fn leaf(text: String) -> Self {
        Self { text, below: Vec::new() }
    }

    /// The lines of the tree, for whoever reads stdout.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.drawn(if output::draws_boxes() { &BOXES } else { &ASCII })
    }

    fn drawn(&self, with: &[&str; 4]) -> Vec<String> {
        let mut lines = vec![self.text.clone()];
        // What is left to draw, the next one last: a tree may be deeper than a stack.
        let mut left: Vec<(&Self, String, bool)> = Vec::new();
        for (i, tree) in self.below.iter().enumerate().rev() {
            left.push((tree, String::new(), i + 1 == self.below.len()));
        }
        while let Some((tree, prefix, last)) = left.pop() {
            let [branch, end, beside, under] = with;
            lines.push(format!("{prefix}{}{}", if last { end } else { branch }, tree.text));
            let prefix = format!("{prefix}{}", if last { under } else { beside });
            for (i, below) in tree.below.iter().enumerate().rev() {
                left.push((below, prefix.clone(), i + 1 == tree.below.len()));
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_drawn_with_boxes_or_plainly() {
        let leaf = |text: &str| Tree::leaf(text.to_owned());
        let branch = Tree { text: "b".into(), below: vec![leaf("c"), leaf("d")] };
        let tree = Tree { text: "a".into(), below: vec![branch, leaf("e")] };
        assert_eq!(tree.drawn(&BOXES), ["a", "├─ b", "│  ├─ c", "│  └─ d", "└─ e"]);
        assert_eq!(tree.drawn(&ASCII), ["a", "|- b", "|  |- c", "|  `- d", "`- e"]);
    }
}
