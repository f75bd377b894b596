//! `wharf:host/sql` and its awaited twin `sql-async`: the plugin's own database.
//!
//! The plain functions are host functions that block the guest's whole instance (wasmtime suspends the
//! fibre and keeps the store), so they suit guests of WASI 0.2, where an instance has one request; they
//! may not be `async` to the component model, which lets no synchronous task block. The twin's are:
//! other requests of the instance go on.

use std::sync::Arc;

use wasmtime::component::{Access, Accessor, HasSelf, Resource};
use wasmtime::{AsContextMut, StoreContextMut};
use wasmtime_wasi::WasiView;

use super::bindings::wharf::host::sql::{
    self, Constraint, ExecuteResult, SqlError, Statement, TransactionKind, Value, Violation,
};
use super::bindings::wharf::host::sql_async;
use super::handler::current_call;
use crate::plugin::state::HostState;
use crate::store::{self, Asker, Claim, Database, StoreError};

/// A cursor that a guest has.
#[derive(Debug)]
pub struct OpenCursor(Arc<store::Cursor>);
/// A transaction that a guest has begun.
#[derive(Debug)]
pub struct OpenTransaction(Arc<store::OpenTransaction>);

type Answer<T> = wasmtime::Result<Result<T, SqlError>>;

/// The guest's database, and for whom it is used now.
fn database(
    mut store: StoreContextMut<'_, HostState>,
) -> wasmtime::Result<Result<(Arc<Database>, Claim), SqlError>> {
    let environment = Arc::clone(&store.data().environment);
    if !environment.manifest.capabilities.sql {
        return Ok(Err(SqlError::NotGranted));
    }
    let claim = claim(store.as_context_mut())?;
    Ok(match environment.sql() {
        Ok(database) => Ok((Arc::clone(database), claim)),
        Err(error) => Err(SqlError::Other(error.to_string())),
    })
}

/// For whom the guest runs now, and how long one thing that it asks for may take.
pub(super) fn claim(store: StoreContextMut<'_, HostState>) -> wasmtime::Result<Claim> {
    let time = store.data().environment.manifest.limits.request_timeout;
    let asker = current_call(store)?.map(|call| call as Arc<dyn Asker>);
    Ok(Claim { asker, time })
}

fn statement(sql: String, params: Vec<Value>) -> store::Statement {
    let params = params.into_iter().map(|value| match value {
        Value::Null => store::Value::Null,
        Value::Integer(number) => store::Value::Integer(number),
        Value::Real(number) => store::Value::Real(number),
        Value::Text(text) => store::Value::Text(text),
        Value::Blob(bytes) => store::Value::Blob(bytes),
    });
    store::Statement { sql, params: params.collect() }
}

fn statements(list: Vec<Statement>) -> Vec<store::Statement> {
    list.into_iter().map(|one| statement(one.sql, one.params)).collect()
}

fn rows(rows: Vec<store::Row>) -> Vec<Vec<Value>> {
    let value = |value| match value {
        store::Value::Null => Value::Null,
        store::Value::Integer(number) => Value::Integer(number),
        store::Value::Real(number) => Value::Real(number),
        store::Value::Text(text) => Value::Text(text),
        store::Value::Blob(bytes) => Value::Blob(bytes),
    };
    rows.into_iter().map(|row| row.into_iter().map(value).collect()).collect()
}

fn executed(executed: store::Executed) -> ExecuteResult {
    ExecuteResult { changes: executed.changes, last_insert_id: executed.last_insert_id }
}

fn access(kind: TransactionKind) -> store::Access {
    match kind {
        TransactionKind::Read => store::Access::Read,
        TransactionKind::Write => store::Access::Write,
    }
}

fn fault(error: StoreError) -> SqlError {
    match error {
        StoreError::Syntax(cause) => SqlError::Syntax(cause),
        StoreError::Refused(cause) => SqlError::Refused(cause),
        StoreError::Constraint { kind, message } => {
            let constraint = match kind {
                store::Constraint::Check => Constraint::Check,
                store::Constraint::Datatype => Constraint::Datatype,
                store::Constraint::ForeignKey => Constraint::ForeignKey,
                store::Constraint::NotNull => Constraint::NotNull,
                store::Constraint::PrimaryKey => Constraint::PrimaryKey,
                store::Constraint::Trigger => Constraint::Trigger,
                store::Constraint::Unique => Constraint::Unique,
                store::Constraint::Other => Constraint::Other,
            };
            SqlError::Constraint(Violation { constraint, message })
        }
        StoreError::Busy => SqlError::Busy,
        StoreError::Interrupted => SqlError::Interrupted,
        StoreError::TooLarge(cause) => SqlError::TooLarge(cause),
        StoreError::Full => SqlError::Full,
        StoreError::Ended => SqlError::Ended,
        StoreError::Other(cause) => SqlError::Other(cause),
    }
}

/// Gives the guest a cursor.
fn keep_cursor(
    state: &mut HostState,
    cursor: Result<store::Cursor, StoreError>,
) -> Answer<Resource<OpenCursor>> {
    match cursor {
        Ok(cursor) => Ok(Ok(state.ctx().table.push(OpenCursor(Arc::new(cursor)))?)),
        Err(error) => Ok(Err(fault(error))),
    }
}

/// Gives the guest a transaction.
fn keep_transaction(
    state: &mut HostState,
    transaction: Result<store::OpenTransaction, StoreError>,
) -> Answer<Resource<OpenTransaction>> {
    match transaction {
        Ok(transaction) => {
            Ok(Ok(state.ctx().table.push(OpenTransaction(Arc::new(transaction)))?))
        }
        Err(error) => Ok(Err(fault(error))),
    }
}

fn cursor_of(
    state: &mut HostState,
    cursor: &Resource<OpenCursor>,
) -> wasmtime::Result<Arc<store::Cursor>> {
    Ok(Arc::clone(&state.ctx().table.get(cursor)?.0))
}

fn transaction_of(
    state: &mut HostState,
    transaction: &Resource<OpenTransaction>,
) -> wasmtime::Result<Arc<store::OpenTransaction>> {
    Ok(Arc::clone(&state.ctx().table.get(transaction)?.0))
}

type Blocking<'a> = Access<'a, HostState, HasSelf<HostState>>;
type Awaiting = Accessor<HostState, HasSelf<HostState>>;

impl sql::Host for HostState {}

impl sql::HostCursor for HostState {
    fn columns(&mut self, cursor: Resource<OpenCursor>) -> wasmtime::Result<Vec<String>> {
        Ok(cursor_of(self, &cursor)?.columns().to_vec())
    }

    fn drop(&mut self, cursor: Resource<OpenCursor>) -> wasmtime::Result<()> {
        self.ctx().table.delete(cursor)?;
        Ok(())
    }
}

impl sql::HostTransaction for HostState {
    fn drop(&mut self, transaction: Resource<OpenTransaction>) -> wasmtime::Result<()> {
        self.ctx().table.delete(transaction)?;
        Ok(())
    }
}

impl sql::HostWithStore<HostState> for HasSelf<HostState> {
    async fn execute(
        mut host: Blocking<'_>,
        sql: String,
        params: Vec<Value>,
    ) -> Answer<ExecuteResult> {
        let (database, claim) = match database(host.as_context_mut())? {
            Ok(database) => database,
            Err(error) => return Ok(Err(error)),
        };
        let done = database.execute(&claim, statement(sql, params)).await;
        Ok(done.map(executed).map_err(fault))
    }

    async fn query(
        mut host: Blocking<'_>,
        sql: String,
        params: Vec<Value>,
    ) -> Answer<Resource<OpenCursor>> {
        let (database, claim) = match database(host.as_context_mut())? {
            Ok(database) => database,
            Err(error) => return Ok(Err(error)),
        };
        let cursor = database.query(&claim, statement(sql, params)).await;
        keep_cursor(host.get(), cursor)
    }

    async fn execute_batch(
        mut host: Blocking<'_>,
        list: Vec<Statement>,
    ) -> Answer<Vec<ExecuteResult>> {
        let (database, claim) = match database(host.as_context_mut())? {
            Ok(database) => database,
            Err(error) => return Ok(Err(error)),
        };
        let done = database.execute_batch(&claim, statements(list)).await;
        Ok(done.map(|done| done.into_iter().map(executed).collect()).map_err(fault))
    }

    async fn begin(
        mut host: Blocking<'_>,
        kind: TransactionKind,
    ) -> Answer<Resource<OpenTransaction>> {
        let (database, claim) = match database(host.as_context_mut())? {
            Ok(database) => database,
            Err(error) => return Ok(Err(error)),
        };
        let transaction = database.begin(&claim, access(kind)).await;
        keep_transaction(host.get(), transaction)
    }
}

impl sql::HostCursorWithStore<HostState> for HasSelf<HostState> {
    async fn next(
        mut host: Blocking<'_>,
        cursor: Resource<OpenCursor>,
        max_rows: u32,
    ) -> Answer<Vec<Vec<Value>>> {
        let cursor = cursor_of(host.get(), &cursor)?;
        Ok(cursor.next(max_rows as usize).await.map(rows).map_err(fault))
    }
}

impl sql::HostTransactionWithStore<HostState> for HasSelf<HostState> {
    async fn execute(
        mut host: Blocking<'_>,
        transaction: Resource<OpenTransaction>,
        sql: String,
        params: Vec<Value>,
    ) -> Answer<ExecuteResult> {
        let transaction = transaction_of(host.get(), &transaction)?;
        Ok(transaction.execute(statement(sql, params)).await.map(executed).map_err(fault))
    }

    async fn query(
        mut host: Blocking<'_>,
        transaction: Resource<OpenTransaction>,
        sql: String,
        params: Vec<Value>,
    ) -> Answer<Resource<OpenCursor>> {
        let transaction = transaction_of(host.get(), &transaction)?;
        let cursor = transaction.query(statement(sql, params)).await;
        keep_cursor(host.get(), cursor)
    }

    async fn commit(mut host: Blocking<'_>, transaction: Resource<OpenTransaction>) -> Answer<()> {
        let transaction = transaction_of(host.get(), &transaction)?;
        Ok(transaction.finish(true).await.map_err(fault))
    }

    async fn rollback(
        mut host: Blocking<'_>,
        transaction: Resource<OpenTransaction>,
    ) -> Answer<()> {
        let transaction = transaction_of(host.get(), &transaction)?;
        Ok(transaction.finish(false).await.map_err(fault))
    }
}

impl sql_async::Host for HostState {}

impl sql_async::HostCursor for HostState {
    fn columns(&mut self, cursor: Resource<OpenCursor>) -> wasmtime::Result<Vec<String>> {
        Ok(cursor_of(self, &cursor)?.columns().to_vec())
    }

    fn drop(&mut self, cursor: Resource<OpenCursor>) -> wasmtime::Result<()> {
        self.ctx().table.delete(cursor)?;
        Ok(())
    }
}

impl sql_async::HostTransaction for HostState {
    fn drop(&mut self, transaction: Resource<OpenTransaction>) -> wasmtime::Result<()> {
        self.ctx().table.delete(transaction)?;
        Ok(())
    }
}

impl sql_async::HostWithStore<HostState> for HasSelf<HostState> {
    async fn execute(host: &Awaiting, sql: String, params: Vec<Value>) -> Answer<ExecuteResult> {
        let (database, claim) = match host.with(|mut host| database(host.as_context_mut()))? {
            Ok(database) => database,
            Err(error) => return Ok(Err(error)),
        };
        let done = database.execute(&claim, statement(sql, params)).await;
        Ok(done.map(executed).map_err(fault))
    }

    async fn query(
        host: &Awaiting,
        sql: String,
        params: Vec<Value>,
    ) -> Answer<Resource<OpenCursor>> {
        let (database, claim) = match host.with(|mut host| database(host.as_context_mut()))? {
            Ok(database) => database,
            Err(error) => return Ok(Err(error)),
        };
        let cursor = database.query(&claim, statement(sql, params)).await;
        host.with(|mut host| keep_cursor(host.get(), cursor))
    }

    async fn execute_batch(host: &Awaiting, list: Vec<Statement>) -> Answer<Vec<ExecuteResult>> {
        let (database, claim) = match host.with(|mut host| database(host.as_context_mut()))? {
            Ok(database) => database,
            Err(error) => return Ok(Err(error)),
        };
        let done = database.execute_batch(&claim, statements(list)).await;
        Ok(done.map(|done| done.into_iter().map(executed).collect()).map_err(fault))
    }

    async fn begin(host: &Awaiting, kind: TransactionKind) -> Answer<Resource<OpenTransaction>> {
        let (database, claim) = match host.with(|mut host| database(host.as_context_mut()))? {
            Ok(database) => database,
            Err(error) => return Ok(Err(error)),
        };
        let transaction = database.begin(&claim, access(kind)).await;
        host.with(|mut host| keep_transaction(host.get(), transaction))
    }
}

impl sql_async::HostCursorWithStore<HostState> for HasSelf<HostState> {
    async fn next(
        host: &Awaiting,
        cursor: Resource<OpenCursor>,
        max_rows: u32,
    ) -> Answer<Vec<Vec<Value>>> {
        let cursor = host.with(|mut host| cursor_of(host.get(), &cursor))?;
        Ok(cursor.next(max_rows as usize).await.map(rows).map_err(fault))
    }
}

impl sql_async::HostTransactionWithStore<HostState> for HasSelf<HostState> {
    async fn execute(
        host: &Awaiting,
        transaction: Resource<OpenTransaction>,
        sql: String,
        params: Vec<Value>,
    ) -> Answer<ExecuteResult> {
        let transaction = host.with(|mut host| transaction_of(host.get(), &transaction))?;
        Ok(transaction.execute(statement(sql, params)).await.map(executed).map_err(fault))
    }

    async fn query(
        host: &Awaiting,
        transaction: Resource<OpenTransaction>,
        sql: String,
        params: Vec<Value>,
    ) -> Answer<Resource<OpenCursor>> {
        let transaction = host.with(|mut host| transaction_of(host.get(), &transaction))?;
        let cursor = transaction.query(statement(sql, params)).await;
        host.with(|mut host| keep_cursor(host.get(), cursor))
    }

    async fn commit(host: &Awaiting, transaction: Resource<OpenTransaction>) -> Answer<()> {
        let transaction = host.with(|mut host| transaction_of(host.get(), &transaction))?;
        Ok(transaction.finish(true).await.map_err(fault))
    }

    async fn rollback(host: &Awaiting, transaction: Resource<OpenTransaction>) -> Answer<()> {
        let transaction = host.with(|mut host| transaction_of(host.get(), &transaction))?;
        Ok(transaction.finish(false).await.map_err(fault))
    }
}
