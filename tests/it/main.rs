//! Every behaviour, over real sockets. One binary; a file a feature.
