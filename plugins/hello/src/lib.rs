wharf_sdk::serve!(wharf_sdk::Router::new);
