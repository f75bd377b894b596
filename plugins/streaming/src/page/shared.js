const at = (id) => document.getElementById(id);

/** A response whose status is an error says why in its problem document. */
async function open(path, options) {
  const response = await fetch(path, { cache: "no-store", ...options });
  if (response.ok) return response;
  const problem = await response.json().catch(() => ({}));
  throw new Error(`${response.status} ${problem.detail ?? problem.title ?? response.statusText}`);
}

/** Calls `take` with every part of the body that ends with `end`, as it arrives. */
async function parts(response, end, take) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const complete = (text + value).split(end);
    text = complete.pop();
    complete.forEach(take);
  }
}

const append = (element, line) => {
  element.append(`${line}\n`);
  element.scrollTop = element.scrollHeight;
};
