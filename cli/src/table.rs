//! How are rows printed in columns?
//!
//! With Docker's widths: a column is at least ten characters wide, and three blanks separate it from the next.

use unicode_width::UnicodeWidthStr;

/// Rows under a header.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table without rows yet.
    pub fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(|&title| title.to_owned()).collect()] }
    }

    /// Adds a row of as many cells as the header has.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| cell.replace(char::is_control, " ")).collect());
    }

    /// The whole table.
    pub fn text(&self) -> String {
        const NARROWEST: usize = 10;
        const GAP: usize = 3;
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            let widest = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max();
            (widest.unwrap_or(0) + GAP).max(NARROWEST)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            for (cell, width) in row.iter().zip(&widths) {
                text.push_str(cell);
                text.extend(std::iter::repeat_n(' ', width.saturating_sub(cell.width())));
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["REPOSITORY", "TAG", "SIZE"]);
        table.row(["docker.io/library/日本".to_owned(), "latest".to_owned(), "4MB".to_owned()]);
        table.row(["x".to_owned(), String::new(), "1\nB".to_owned()]);
        insta::assert_snapshot!(table.text(), @"
        REPOSITORY               TAG       SIZE
        docker.io/library/日本   latest    4MB
        x                                  1 B
        ");
    }
}
