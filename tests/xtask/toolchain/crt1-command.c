/* The `_start` of command components. Debian's of 2022 leaves the constructors to the linker, which
   skips them once any object mentions __wasm_call_ctors. wit-bindgen's runtime does, and with it every
   standard library for wasm32-wasip2: without this file std::fs would see no preopened folder. */
extern void __wasm_call_ctors(void), __wasm_call_dtors(void);
extern int __main_void(void);
_Noreturn void __wasi_proc_exit(int code);

__attribute__((export_name("_start"))) void _start(void) {
  static volatile int started;
  if (started++) __builtin_trap();
  __wasm_call_ctors();
  int code = __main_void();
  __wasm_call_dtors();
  if (code != 0) __wasi_proc_exit(code);
}
