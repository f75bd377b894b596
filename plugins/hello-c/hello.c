// The C sample plugin: what the host knows of a connection, an echo that streams, and events that the host
// hands on.
//
// `plugin.h` is generated from `wit/` during the build. Paths arrive whole, with the `/c` under which the
// plugin is mounted. What the bindings hand out belongs to us and is freed here: a host may use one
// instance for many requests.

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugin.h"

// The most that one splice moves from request to response, in bytes.
#define SPLICE_BYTES 65536
// The most that `blocking-write-and-flush` takes at once, in bytes (wasi:io/streams).
#define WRITE_BYTES 4096
// The most that an event carries, in bytes.
#define EVENT_BYTES 65536

static const char PAGE[] =
    "<!doctype html>\n"
    "<html lang=\"en\">\n"
    "<meta charset=\"utf-8\">\n"
    "<title>hello-c</title>\n"
    "<h1>Hello from C</h1>\n"
    "<p>C, compiled to WebAssembly, answers this page.</p>\n"
    "<ul>\n"
    "<li><a href=\"/c/protocol\">GET /c/protocol</a>: what the server knows of your connection\n"
    "<li>POST /c/echo: the request's body, sent back as it arrives\n"
    "<li><a href=\"/c/events\">GET /c/events</a>: what is posted there, as it comes\n"
    "</ul>\n"
    "</html>\n";

static const char *const PROTOCOLS[] = {
    [WHARF_HOST_EXCHANGE_PROTOCOL_HTTP1] = "HTTP/1.1",
    [WHARF_HOST_EXCHANGE_PROTOCOL_HTTP2] = "HTTP/2",
    [WHARF_HOST_EXCHANGE_PROTOCOL_HTTP3] = "HTTP/3",
};

typedef exports_wasi_http_incoming_handler_own_incoming_request_t request_t;
typedef exports_wasi_http_incoming_handler_own_response_outparam_t outparam_t;
typedef wasi_http_types_own_fields_t fields_t;

// Lends static text to the host.
static plugin_string_t lend(const char *text) {
  return (plugin_string_t){(uint8_t *)text, strlen(text)};
}

static void append(fields_t fields, const char *name, const uint8_t *value, size_t length) {
  plugin_string_t key = lend(name);
  wasi_http_types_field_value_t field = {(uint8_t *)value, length};
  wasi_http_types_header_error_t error;
  // The host refuses only what breaks HTTP's syntax or is its own to set; nothing here does.
  (void)wasi_http_types_method_fields_append(wasi_http_types_borrow_fields(fields), &key, &field, &error);
}

static void append_text(fields_t fields, const char *name, const char *value) {
  append(fields, name, (const uint8_t *)value, strlen(value));
}

// Starts the response; false if the host wants no body.
static bool start(outparam_t out, uint16_t status, fields_t headers,
                  wasi_http_types_own_outgoing_body_t *body) {
  wasi_http_types_own_outgoing_response_t response = wasi_http_types_constructor_outgoing_response(headers);
  wasi_http_types_borrow_outgoing_response_t borrowed = wasi_http_types_borrow_outgoing_response(response);
  (void)wasi_http_types_method_outgoing_response_set_status_code(borrowed, status);
  bool has_body = wasi_http_types_method_outgoing_response_body(borrowed, body);
  wasi_http_types_result_own_outgoing_response_error_code_t result = {.is_err = false, .val.ok = response};
  wasi_http_types_static_response_outparam_set(out, &result);
  return has_body;
}

// Ends the response. `trailers` may be null.
static void finish(wasi_http_types_own_outgoing_body_t body, fields_t *trailers) {
  wasi_http_types_error_code_t error;
  if (!wasi_http_types_static_outgoing_body_finish(body, trailers, &error)) {
    wasi_http_types_error_code_free(&error);
  }
}

// Answers with a body that is known, and so its length. `allow` may be null.
static void answer(outparam_t out, uint16_t status, const char *type, const char *allow, const char *text,
                   size_t length) {
  fields_t headers = wasi_http_types_constructor_fields();
  append_text(headers, "content-type", type);
  char number[24];
  snprintf(number, sizeof number, "%zu", length);
  append_text(headers, "content-length", number);
  if (strncmp(type, "text/html", 9) != 0) append_text(headers, "cache-control", "no-store");
  if (allow != NULL) append_text(headers, "allow", allow);
  wasi_http_types_own_outgoing_body_t body;
  if (!start(out, status, headers, &body)) return;

  wasi_io_streams_own_output_stream_t stream;
  if (!wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(body), &stream)) {
    wasi_http_types_outgoing_body_drop_own(body);
    return;
  }
  bool whole = true;
  for (size_t sent = 0; whole && sent < length;) {
    size_t count = length - sent < WRITE_BYTES ? length - sent : WRITE_BYTES;
    plugin_list_u8_t chunk = {(uint8_t *)text + sent, count};
    wasi_io_streams_stream_error_t error;
    whole = wasi_io_streams_method_output_stream_blocking_write_and_flush(
        wasi_io_streams_borrow_output_stream(stream), &chunk, &error);
    if (!whole) wasi_io_streams_stream_error_free(&error);
    sent += count;
  }
  wasi_io_streams_output_stream_drop_own(stream);
  if (whole) {
    finish(body, NULL);
  } else {
    wasi_http_types_outgoing_body_drop_own(body);
  }
}

// Answers with an error of RFC 9457.
static void problem(outparam_t out, uint16_t status, const char *title, const char *allow) {
  char text[96];
  int length = snprintf(text, sizeof text, "{\"title\":\"%s\",\"status\":%u}", title, status);
  answer(out, status, "application/problem+json", allow, text, (size_t)length);
}

// The first value of a header; false if there is none. The list is the caller's to free either way.
static bool header(request_t request, const char *name, wasi_http_types_list_field_value_t *values) {
  fields_t headers =
      wasi_http_types_method_incoming_request_headers(wasi_http_types_borrow_incoming_request(request));
  plugin_string_t key = lend(name);
  wasi_http_types_method_fields_get(wasi_http_types_borrow_fields(headers), &key, values);
  wasi_http_types_fields_drop_own(headers);
  return values->len > 0;
}

static void put_text(FILE *json, const char *name, const plugin_string_t *value) {
  fprintf(json, "\"%s\":", name);
  if (value == NULL) {
    fputs("null,", json);
    return;
  }
  fputc('"', json);
  for (size_t i = 0; i < value->len; i++) {
    uint8_t byte = value->ptr[i];
    if (byte < 0x20) {
      fprintf(json, "\\u%04x", byte);
    } else {
      if (byte == '"' || byte == '\\') fputc('\\', json);
      fputc(byte, json);
    }
  }
  fputs("\",", json);
}

// The exchange of a request; false if the host named none that is still alive.
static bool open_exchange(request_t request, wharf_host_exchange_own_exchange_t *exchange) {
  wasi_http_types_list_field_value_t tokens;
  bool found = header(request, "wharf-exchange", &tokens);
  if (found) {
    plugin_string_t token = {tokens.ptr[0].ptr, tokens.ptr[0].len};
    wharf_host_exchange_open_error_t error;
    found = wharf_host_exchange_open(&token, exchange, &error);
  }
  wasi_http_types_list_field_value_free(&tokens);
  return found;
}

// The facts of one exchange. Those of TLS are null on a cleartext connection.
static void put_facts(FILE *json, wharf_host_exchange_own_exchange_t exchange) {
  wharf_host_exchange_borrow_exchange_t borrowed = wharf_host_exchange_borrow_exchange(exchange);
  wharf_host_exchange_connection_t connection;
  plugin_string_t request_id, route;
  wharf_host_exchange_method_exchange_connection(borrowed, &connection);
  wharf_host_exchange_method_exchange_request_id(borrowed, &request_id);
  wharf_host_exchange_method_exchange_route(borrowed, &route);

  wharf_host_exchange_tls_facts_t *tls = connection.tls.is_some ? &connection.tls.val : NULL;
  plugin_string_t protocol = lend(PROTOCOLS[connection.protocol]);
  put_text(json, "protocol", &protocol);
  put_text(json, "tls_version", tls ? &tls->version : NULL);
  put_text(json, "cipher", tls ? &tls->cipher : NULL);
  put_text(json, "alpn", tls && tls->alpn.is_some ? &tls->alpn.val : NULL);
  put_text(json, "sni", tls && tls->sni.is_some ? &tls->sni.val : NULL);
  put_text(json, "peer", &connection.peer);
  fprintf(json, "\"connection_id\":%" PRIu64 ",", connection.id);
  fprintf(json, "\"requests\":%" PRIu64 ",", connection.requests);
  fprintf(json, "\"early_data\":%s,", tls && tls->early_data ? "true" : "false");
  put_text(json, "request_id", &request_id);
  put_text(json, "route", &route);

  plugin_string_free(&request_id);
  plugin_string_free(&route);
  wharf_host_exchange_connection_free(&connection);
  wharf_host_exchange_exchange_drop_own(exchange);
}

static void protocol(request_t request, outparam_t out) {
  char *text = NULL;
  size_t length = 0;
  FILE *json = open_memstream(&text, &length);
  if (json == NULL) abort();
  fputc('{', json);
  wharf_host_exchange_own_exchange_t exchange;
  if (open_exchange(request, &exchange)) {
    put_facts(json, exchange);
  } else {
    fputs("\"protocol\":null,\"tls_version\":null,\"cipher\":null,\"alpn\":null,\"sni\":null,\"peer\":null,"
          "\"connection_id\":null,\"requests\":null,\"early_data\":false,\"request_id\":null,\"route\":null,",
          json);
  }
  fputs("\"language\":\"C\"}", json);
  if (fclose(json) != 0) abort();
  answer(out, 200, "application/json", NULL, text, length);
  free(text);
}

// The trailers of a body that was read to its end; false if it had none or broke off.
static bool trailers_of(wasi_http_types_own_incoming_body_t body, fields_t *trailers) {
  wasi_http_types_own_future_trailers_t future = wasi_http_types_static_incoming_body_finish(body);
  wasi_http_types_borrow_future_trailers_t borrowed = wasi_http_types_borrow_future_trailers(future);
  wasi_io_poll_own_pollable_t ready = wasi_http_types_method_future_trailers_subscribe(borrowed);
  wasi_io_poll_method_pollable_block(wasi_io_poll_borrow_pollable(ready));
  wasi_io_poll_pollable_drop_own(ready);
  wasi_http_types_result_result_option_own_trailers_error_code_void_t result;
  bool found = false;
  if (wasi_http_types_method_future_trailers_get(borrowed, &result) && !result.is_err) {
    if (result.val.ok.is_err) {
      wasi_http_types_error_code_free(&result.val.ok.val.err);
    } else if (result.val.ok.val.ok.is_some) {
      *trailers = result.val.ok.val.ok.val;
      found = true;
    }
  }
  wasi_http_types_future_trailers_drop_own(future);
  return found;
}

// Moves the body as it arrives; true at its end, false if either side broke off.
static bool copy(wasi_io_streams_own_input_stream_t from, wasi_io_streams_own_output_stream_t to) {
  for (;;) {
    uint64_t moved;
    wasi_io_streams_stream_error_t error;
    if (!wasi_io_streams_method_output_stream_blocking_splice(wasi_io_streams_borrow_output_stream(to),
                                                              wasi_io_streams_borrow_input_stream(from),
                                                              SPLICE_BYTES, &moved, &error)) {
      bool ended = error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED;
      wasi_io_streams_stream_error_free(&error);
      return ended;
    }
  }
}

static void echo(request_t request, outparam_t out) {
  fields_t headers = wasi_http_types_constructor_fields();
  wasi_http_types_list_field_value_t types;
  if (header(request, "content-type", &types)) {
    append(headers, "content-type", types.ptr[0].ptr, types.ptr[0].len);
  }
  wasi_http_types_list_field_value_free(&types);

  // Each of these three is refused only to a second caller.
  wasi_http_types_own_incoming_body_t from;
  wasi_io_streams_own_input_stream_t input;
  wasi_http_types_own_outgoing_body_t to;
  wasi_io_streams_own_output_stream_t output;
  if (!wasi_http_types_method_incoming_request_consume(wasi_http_types_borrow_incoming_request(request), &from) ||
      !wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(from), &input) ||
      !start(out, 200, headers, &to) ||
      !wasi_http_types_method_outgoing_body_write(wasi_http_types_borrow_outgoing_body(to), &output)) {
    abort();
  }
  bool whole = copy(input, output);
  wasi_io_streams_input_stream_drop_own(input);
  wasi_io_streams_output_stream_drop_own(output);
  if (!whole) {
    // Without a `finish` the client sees that the response broke off.
    wasi_http_types_incoming_body_drop_own(from);
    wasi_http_types_outgoing_body_drop_own(to);
    return;
  }
  fields_t trailers;
  finish(to, trailers_of(from, &trailers) ? &trailers : NULL);
}

// Answers with what the host holds: it puts an event stream of the topics `hello/*` in the place of the
// response's body.
static void events(request_t request, outparam_t out) {
  wharf_host_exchange_own_exchange_t exchange;
  if (!open_exchange(request, &exchange)) {
    problem(out, 500, "Internal Server Error", NULL);
    return;
  }
  wharf_host_hub_selector_t topics = {.tag = WHARF_HOST_HUB_SELECTOR_PATTERN, .val.pattern = lend("hello/*")};
  wharf_host_sse_options_t options = {
      .subscription.topics = {&topics, 1},
      .start.tag = WHARF_HOST_HUB_START_REQUEST,
      .retry = {.is_some = true, .val = 1000},
      .lag = WHARF_HOST_SSE_LAG_POLICY_DISCONNECT,
  };
  wharf_host_sse_event_stream_t stream;
  wharf_host_sse_subscribe_error_t error;
  bool held = wharf_host_sse_reply(wharf_host_exchange_borrow_exchange(exchange), &options, &stream, &error);
  wharf_host_exchange_exchange_drop_own(exchange);
  if (!held) {
    problem(out, 503, "Service Unavailable", NULL);
    wharf_host_sse_subscribe_error_free(&error);
    return;
  }
  fields_t headers = wasi_http_types_constructor_fields();
  append(headers, "wharf-reply", stream.token.ptr, stream.token.len);
  wharf_host_sse_event_stream_free(&stream);
  wasi_http_types_own_outgoing_body_t body;
  if (start(out, 200, headers, &body)) finish(body, NULL);
}

// Reads a body of at most `EVENT_BYTES`; false if it is longer or broke off.
static bool read_all(request_t request, uint8_t *bytes, size_t *length) {
  wasi_http_types_own_incoming_body_t body;
  wasi_io_streams_own_input_stream_t input;
  if (!wasi_http_types_method_incoming_request_consume(wasi_http_types_borrow_incoming_request(request), &body) ||
      !wasi_http_types_method_incoming_body_stream(wasi_http_types_borrow_incoming_body(body), &input)) {
    abort();
  }
  *length = 0;
  bool whole = false;
  for (bool more = true; more;) {
    plugin_list_u8_t piece;
    wasi_io_streams_stream_error_t error;
    more = wasi_io_streams_method_input_stream_blocking_read(wasi_io_streams_borrow_input_stream(input),
                                                             WRITE_BYTES, &piece, &error);
    if (!more) {
      whole = error.tag == WASI_IO_STREAMS_STREAM_ERROR_CLOSED;
      wasi_io_streams_stream_error_free(&error);
    } else {
      more = piece.len <= EVENT_BYTES - *length;
      if (more) {
        memcpy(bytes + *length, piece.ptr, piece.len);
        *length += piece.len;
      }
      plugin_list_u8_free(&piece);
    }
  }
  wasi_io_streams_input_stream_drop_own(input);
  wasi_http_types_incoming_body_drop_own(body);
  return whole;
}

// Text of an interface has to be UTF-8 (RFC 3629): what is not would be a trap.
static bool is_utf8(const uint8_t *bytes, size_t length) {
  for (size_t i = 0; i < length;) {
    uint8_t first = bytes[i++];
    if (first < 0x80) continue;
    size_t more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1;
    if (first < 0xc2 || first > 0xf4 || more > length - i) return false;
    // Overlong forms, surrogates and what lies past U+10FFFF show in the second byte.
    uint8_t lowest = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    uint8_t highest = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    for (; more > 0; more--, i++, lowest = 0x80, highest = 0xbf) {
      if (bytes[i] < lowest || bytes[i] > highest) return false;
    }
  }
  return true;
}

// Publishes the body to the topic `hello/c`.
static void post_event(request_t request, outparam_t out) {
  uint8_t *bytes = malloc(EVENT_BYTES);
  size_t length;
  if (bytes == NULL) abort();
  if (!read_all(request, bytes, &length)) {
    problem(out, 413, "Content Too Large", NULL);
  } else if (!is_utf8(bytes, length)) {
    problem(out, 400, "Bad Request", NULL);
  } else {
    wharf_host_hub_publication_t publication = {
        .topic = lend("hello/c"),
        .event = {.name = {.is_some = true, .val = lend("greeting")},
                  .data = {.tag = WHARF_HOST_HUB_PAYLOAD_TEXT, .val.text = {bytes, length}}},
    };
    plugin_string_t id;
    wharf_host_hub_publish_error_t error;
    if (wharf_host_hub_publish(&publication, &id, &error)) {
      char json[300];
      int written = snprintf(json, sizeof json, "{\"id\":\"%.*s\"}", (int)id.len, (const char *)id.ptr);
      answer(out, 201, "application/json", NULL, json, (size_t)written);
      plugin_string_free(&id);
    } else {
      problem(out, 503, "Service Unavailable", NULL);
      wharf_host_hub_publish_error_free(&error);
    }
  }
  free(bytes);
}

static bool is(const plugin_string_t *path, const char *text) {
  return path->len == strlen(text) && memcmp(path->ptr, text, path->len) == 0;
}

static void route(request_t request, outparam_t out, const plugin_string_t *path, uint8_t method) {
  bool reads = method == WASI_HTTP_TYPES_METHOD_GET || method == WASI_HTTP_TYPES_METHOD_HEAD;
  bool posts = method == WASI_HTTP_TYPES_METHOD_POST;
  bool is_page = is(path, "/c") || is(path, "/c/");
  if (is_page || is(path, "/c/protocol")) {
    if (!reads) {
      problem(out, 405, "Method Not Allowed", "GET, HEAD");
    } else if (is_page) {
      answer(out, 200, "text/html; charset=utf-8", NULL, PAGE, sizeof PAGE - 1);
    } else {
      protocol(request, out);
    }
  } else if (is(path, "/c/events")) {
    if (reads) {
      events(request, out);
    } else if (posts) {
      post_event(request, out);
    } else {
      problem(out, 405, "Method Not Allowed", "GET, HEAD, POST");
    }
  } else if (!is(path, "/c/echo")) {
    problem(out, 404, "Not Found", NULL);
  } else if (!posts) {
    problem(out, 405, "Method Not Allowed", "POST");
  } else {
    echo(request, out);
  }
}

void exports_wasi_http_incoming_handler_handle(request_t request, outparam_t out) {
  wasi_http_types_borrow_incoming_request_t borrowed = wasi_http_types_borrow_incoming_request(request);
  wasi_http_types_method_t method;
  wasi_http_types_method_incoming_request_method(borrowed, &method);
  plugin_string_t target = {NULL, 0};
  bool has_target = wasi_http_types_method_incoming_request_path_with_query(borrowed, &target);
  plugin_string_t path = target;
  const uint8_t *query = path.len > 0 ? memchr(path.ptr, '?', path.len) : NULL;
  if (query != NULL) path.len = (size_t)(query - path.ptr);

  route(request, out, &path, method.tag);

  if (has_target) plugin_string_free(&target);
  wasi_http_types_method_free(&method);
  wasi_http_types_incoming_request_drop_own(request);
}
