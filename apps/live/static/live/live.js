// Keeps a page of the staff window up to date. The page is complete without it: the server has written everything once.
// It builds no sentence and no number of its own, except ages and the clock, which it counts on from the server's time.

const STRIP = document.getElementById("cdb-strip");
const BOARD = document.getElementById("cdb-board");
const HEARD_LATE_LINE = "Trading itself may be running.";

function limits(element) {
  const read = (name) => Number(element.dataset[name]);
  return {
    delayedMs: read("delayedMs"),
    reconnectMs: read("reconnectMs"),
    staleMs: read("staleMs"),
    backoffFirstMs: read("backoffFirstMs"),
    backoffMaxMs: read("backoffMaxMs"),
  };
}

// The same words as apps/staff/times.py.
export function duration(ms) {
  const whole = Math.max(0, Math.floor(ms));
  const seconds = Math.floor(whole / 1000);
  if (seconds < 10) return `${seconds}.${Math.floor((whole % 1000) / 100)} s`;
  if (seconds < 120) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return hours % 24 ? `${Math.floor(hours / 24)} d ${hours % 24} h` : `${Math.floor(hours / 24)} d`;
}

export function utcClock(ms) {
  return `${new Date(ms).toISOString().slice(11, 19)} UTC`;
}

// The server's clock, carried on by the browser's monotonic one; the browser's own wall clock is never asked.
class ServerClock {
  constructor(ms) { this.set(ms); }
  set(ms) { this.serverMs = ms; this.at = performance.now(); }
  now() { return this.serverMs + (performance.now() - this.at); }
}

class Page {
  constructor(strip, board) {
    this.strip = strip;
    this.board = board;
    this.limits = limits(strip);
    this.clock = new ServerClock(Number(strip.dataset.now));
    this.heardAt = performance.now();
    this.checkedMs = Number(strip.dataset.now);
    this.failures = 0;
    this.sentenceAt = 0;
    this.ended = false;
    this.blind = false;
  }

  start() {
    this.connect();
    setInterval(() => this.tick(), 1000);
    this.tick();
    addEventListener("pagehide", () => this.leave());
    addEventListener("pageshow", (event) => { if (event.persisted) { this.ended = false; this.connect(); } });
  }

  leave() {
    this.ended = true;
    clearTimeout(this.retry);
    if (this.socket) this.socket.close(1000);
  }

  connect() {
    clearTimeout(this.retry);
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(`${scheme}//${location.host}${this.strip.dataset.socket}${this.board ? `?${this.board.dataset.page}` : ""}`);
    this.socket = socket;
    this.lastSeq = 0;
    this.triedAt = performance.now();
    socket.addEventListener("message", (event) => { if (socket === this.socket) this.receive(JSON.parse(event.data)); });
    socket.addEventListener("close", (event) => { if (socket === this.socket) this.lost(event.code); });
  }

  receive(frame) {
    if (frame.seq <= this.lastSeq) return;
    this.lastSeq = frame.seq;
    this.failures = 0;
    this.heardAt = performance.now();
    this.clock.set(frame.server_ms);
    if (frame.checked_ms !== null) this.checkedMs = frame.checked_ms;
    if (frame.type !== "heartbeat") {
      this.newest = frame.strip;
      for (const [name, html] of Object.entries(frame.sections)) this.replace(name, html);
      this.socket.send(JSON.stringify({ ack: frame.seq }));
    }
    this.tick();
  }

  async lost(code) {
    this.socket = null;
    if (this.ended) return;
    if (code === 4401 || (this.lastSeq === 0 && await this.signedOut())) {
      this.ended = true;
      this.badge("signed-out", "× signed out: ", "sign in");
      return;
    }
    this.closedWith = code === 4008 ? "× closed by server: too slow (4008)" : "";
    const wait = Math.min(this.limits.backoffMaxMs, this.limits.backoffFirstMs * 2 ** this.failures);
    this.failures += 1;
    this.retry = setTimeout(() => this.connect(), wait * (0.5 + Math.random() / 2));
    this.tick();
  }

  // A refused handshake looks like a dead server; the page itself tells the two apart.
  async signedOut() {
    try {
      const answer = await fetch("/live/", { method: "HEAD", redirect: "manual", cache: "no-store" });
      return answer.type === "opaqueredirect";
    } catch {
      return false;
    }
  }

  tick() {
    const silentMs = performance.now() - this.heardAt;
    if (!this.ended && this.socket && silentMs > this.limits.reconnectMs
        && performance.now() - this.triedAt > this.limits.reconnectMs) this.giveUp();
    const oldMs = this.clock.now() - this.checkedMs;
    const blind = silentMs > this.limits.delayedMs;
    document.documentElement.classList.toggle("stale", blind || oldMs > this.limits.delayedMs);
    this.showAsOf(blind || oldMs > this.limits.delayedMs, oldMs);
    this.showConnection(silentMs, oldMs);
    this.showStrip(blind, silentMs);
    this.showAges();
    document.getElementById("cdb-clock").textContent = utcClock(this.clock.now());
  }

  giveUp() {
    const socket = this.socket;
    this.socket = null;
    socket.close();
    this.lost(1006);
  }

  showConnection(silentMs, oldMs) {
    if (this.ended) return;
    if (this.closedWith) this.badge("closed", this.closedWith);
    else if (!this.socket || silentMs > this.limits.delayedMs) {
      this.badge("reconnecting", `○ Reconnecting… ${Math.floor(silentMs / 1000)} s`);
    } else if (this.lastSeq === 0 || oldMs > this.limits.delayedMs) this.badge("catching-up", "◐ catching up");
    else this.badge("live", "● live");
    if (this.socket && this.lastSeq) this.closedWith = "";
  }

  badge(state, text, link = "") {
    const badge = document.getElementById("cdb-connection");
    if (badge.dataset.state === state && badge.textContent === text + link) return;
    badge.dataset.state = state;
    badge.textContent = text;
    if (link) {
      const anchor = document.createElement("a");
      anchor.href = `/admin/login/?next=${encodeURIComponent(location.pathname)}`;
      anchor.textContent = link;
      badge.append(anchor);
    }
  }

  showAsOf(shown, oldMs) {
    const line = document.getElementById("cdb-shown-as-of");
    line.hidden = !shown;
    if (shown) line.textContent = `Shown as of ${utcClock(this.checkedMs)}, ${duration(oldMs)} ago.`;
  }

  // A screen reader hears the sentence at most once per five seconds, unless the situation itself changes.
  showStrip(blind, silentMs) {
    const sentence = document.getElementById("cdb-sentence");
    if (blind) {
      this.blind = true;
      this.strip.dataset.severity = "warning";
      this.strip.dataset.situation = "page-blind";
      sentence.textContent = `This page lost the server ${duration(silentMs)} ago. Reconnecting… ${HEARD_LATE_LINE}`;
      return;
    }
    const newest = this.newest;
    if (!newest) return;
    const now = performance.now();
    const changed = this.blind || newest.situation !== this.strip.dataset.situation || newest.severity !== this.strip.dataset.severity;
    this.showParts(newest.parts);
    if (!changed && now - this.sentenceAt < 5000) return;
    this.blind = false;
    this.sentenceAt = now;
    this.strip.dataset.severity = newest.severity;
    this.strip.dataset.situation = newest.situation;
    this.showShape(newest.severity);
    if (sentence.textContent !== newest.line) sentence.textContent = newest.line;
  }

  showShape(severity) {
    const state = this.strip.querySelector(".cdb-strip-state");
    const template = document.getElementById(`cdb-shape-${severity}`);
    state.querySelectorAll(".cdb-shape, .cdb-word").forEach((element) => element.remove());
    if (template) state.prepend(template.content.cloneNode(true));
  }

  showParts(parts) {
    const text = JSON.stringify(parts.map((part) => [part.text.replace(/[0-9].*/, ""), part.abnormal, part.since_ms]));
    if (text === this.partsShown) return;
    this.partsShown = text;
    document.getElementById("cdb-parts").replaceChildren(...parts.map((part) => this.part(part)));
  }

  part(part) {
    const item = document.createElement("li");
    item.dataset.part = part.name;
    item.classList.toggle("cdb-abnormal", part.abnormal);
    item.textContent = (part.abnormal ? "▲ " : "") + (part.since_ms === null ? part.text : "data ");
    if (part.since_ms !== null) {
      const age = document.createElement("span");
      age.className = "cdb-age";
      age.dataset.at = part.since_ms;
      item.append(age);
    }
    return item;
  }

  showAges() {
    const now = this.clock.now();
    for (const element of document.querySelectorAll(".cdb-age[data-at]")) {
      const ms = now - Number(element.dataset.at);
      const old = ms > this.limits.staleMs;
      const text = duration(ms) + (old ? " old" : "");
      if (element.textContent !== text) element.textContent = text;
      element.classList.toggle("cdb-old", old);
      element.classList.toggle("cdb-aging", !old && ms > this.limits.delayedMs);
    }
  }

  replace(name, html) {
    const section = document.getElementById(`cdb-${name}`);
    if (!section) return;
    const before = [...section.querySelectorAll("[data-raw]")].map((element) => element.dataset.raw);
    const focused = section.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    const unfolded = [...section.querySelectorAll("details")].map((element) => element.open);
    section.innerHTML = html;
    section.querySelectorAll("details").forEach((element, index) => { element.open = unfolded[index] ?? false; });
    if (focused) section.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus();
    const after = [...section.querySelectorAll("[data-raw]")];
    if (after.length !== before.length) return;
    after.filter((element, index) => element.dataset.raw !== before[index]).forEach((element) => {
      element.classList.add("cdb-changed");
      setTimeout(() => element.classList.remove("cdb-changed"), 150);
    });
  }
}

if (STRIP) new Page(STRIP, BOARD).start();
