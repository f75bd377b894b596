//! What happened: request guard, metrics, logs.
