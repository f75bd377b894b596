//! What a plugin's SQL may do: everything inside its own database, nothing outside it and nothing
//! that changes how the database works. SQLite asks for each thing a statement would do while it
//! compiles the statement.

use rusqlite::hooks::{AuthAction, AuthContext, Authorization};

/// Pragmas that only tell something, or that are the plugin's own (`user_version`).
const PRAGMAS: &[&str] = &[
    "application_id",
    "collation_list",
    "compile_options",
    "data_version",
    "foreign_key_check",
    "foreign_key_list",
    "freelist_count",
    "function_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "integrity_check",
    "module_list",
    "page_count",
    "page_size",
    "pragma_list",
    "quick_check",
    "table_info",
    "table_list",
    "table_xinfo",
    "user_version",
];

/// Kinds of virtual table that a plugin may make: full text and R-trees.
const MODULES: &[&str] = &["fts3", "fts4", "fts5", "fts5vocab", "rtree", "rtree_i32"];

/// Functions that lead out of the database. None but `load_extension` is in our SQLite; the others are
/// extensions that a build might add.
const FUNCTIONS: &[&str] =
    &["load_extension", "readfile", "writefile", "edit", "lsdir", "fts3_tokenizer"];

/// Whether a guest's statement may do this.
pub(super) fn authorize(context: AuthContext<'_>) -> Authorization {
    let listed = |list: &[&str], name: &str| list.iter().any(|one| one.eq_ignore_ascii_case(name));
    let allowed = match context.action {
        AuthAction::Attach { .. }
        | AuthAction::Detach { .. }
        | AuthAction::Transaction { .. }
        | AuthAction::Savepoint { .. }
        // Temporary things belong to a connection, and which one a statement gets is chance.
        | AuthAction::CreateTempIndex { .. }
        | AuthAction::CreateTempTable { .. }
        | AuthAction::CreateTempTrigger { .. }
        | AuthAction::CreateTempView { .. }
        | AuthAction::Unknown { .. } => false,
        AuthAction::Pragma { pragma_name, .. } => listed(PRAGMAS, pragma_name),
        AuthAction::Function { function_name } => !listed(FUNCTIONS, function_name),
        AuthAction::CreateVtable { module_name, .. } => listed(MODULES, module_name),
        _ => true,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}
