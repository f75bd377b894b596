"use strict";

// Renews the numbers from the page itself, asked for without its wait, while somebody looks.
async function renew() {
  if (!document.hidden) {
    try {
      const response = await fetch("/dashboard?wait=0", { cache: "no-store" });
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const numbers = page.getElementById("numbers");
      if (response.ok && numbers) document.getElementById("numbers").replaceWith(numbers);
    } catch {
      // The server may be back by the next time.
    }
  }
  setTimeout(renew, 2000);
}

addEventListener("load", () => setTimeout(() => {
  const early = performance.getEntriesByType("resource")
    .filter((entry) => entry.initiatorType === "early-hints").length;
  if (early > 0) {
    document.getElementById("early").textContent = `${early} of its files came before the page did.`;
  }
}));
setTimeout(renew, 2000);
