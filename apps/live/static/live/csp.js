// Makes unfold's pages run under `script-src 'self'` with Alpine's CSP build. Loaded through UNFOLD["SCRIPTS"]: after htmx,
// before the deferred Alpine starts. Each rewrite below names the expression of unfold 0.91.0 that the build cannot parse.
"use strict";

const cdbRoot = document.documentElement;

// unfold hides the whole page until Alpine has started. A page that staff needs in an emergency must not depend on that.
function paintAtOnce() {
  let theme = "auto";
  try {
    theme = JSON.parse(localStorage.getItem("adminTheme") || '"auto"');
  } catch {
    localStorage.removeItem("adminTheme");
  }
  const dark = theme === "dark" || (theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  cdbRoot.classList.toggle("dark", dark);
  cdbRoot.removeAttribute("x-cloak");
}

// layouts/skeleton.html: the body's x-data reads localStorage and its x-init holds an arrow function.
function bodyComponent(firstTab) {
  return {
    activeTab: firstTab,
    sidebarMobileOpen: false,
    sidebarDesktopOpen: localStorage.getItem("sidebarDesktopOpen") !== "0",
    tabHref() {
      const here = location.pathname + location.search;
      return this.activeTab && this.activeTab !== "general" ? `${here}#${this.activeTab}` : here;
    },
    init() {
      if (firstTab) this.activeTab = getCurrentTab() || firstTab;
      this.$watch("sidebarDesktopOpen", (open) => localStorage.setItem("sidebarDesktopOpen", open ? "1" : "0"));
    },
  };
}

function rewrite(selector, attribute, change) {
  for (const element of document.querySelectorAll(selector)) {
    const before = element.getAttribute(attribute);
    if (before !== null) element.setAttribute(attribute, change(before));
  }
}

function rewriteExpressions() {
  const body = document.body;
  const firstTab = ((body.getAttribute("x-data") || "").match(/activeTab:\s*'([^']*)'/) || ["", ""])[1];
  Alpine.data("cdbBody", () => bodyComponent(firstTab));
  body.setAttribute("x-data", "cdbBody");
  body.removeAttribute("x-init");
  // helpers/welcomemsg.html: two statements, one of them on localStorage (bodyComponent watches instead).
  rewrite('[x-on\\:click*="localStorage"]', "x-on:click", () => "sidebarDesktopOpen = !sidebarDesktopOpen");
  // admin/change_form.html and tabs: window.location inside an expression.
  for (const name of ["href", "action", "value"]) {
    rewrite(`[x-bind\\:${name}*="window.location"]`, `x-bind:${name}`, () => "tabHref()");
  }
  // helpers/command.html: `if (...)` before selectItem; without this, Enter in the palette does nothing.
  rewrite("[x-ref=searchInputCommand]", "x-on:keydown.enter.prevent", (expression) =>
    expression.replace(/^if \((.*)\) (selectItem\(.*\))$/, "$1 && $2"));
  // helpers/search.html: `if ... else` on Escape.
  rewrite("[x-ref=searchInput]", "x-on:keydown.escape.prevent", () => "openSearchResults = false");
  // admin/actions.html: a style given as text is a style attribute; as an object it is set property by property.
  rewrite('[x-bind\\:style*="changeListWidth"]', "x-bind:style", () => "{ width: changeListWidth + 'px' }");
}

paintAtOnce();
htmx.config.includeIndicatorStyles = false; // would insert a <style>
htmx.config.allowEval = false;
document.addEventListener("alpine:init", () => {
  for (const factory of ["theme", "searchForm", "searchDropdown", "searchCommand"]) {
    if (typeof window[factory] === "function") Alpine.data(factory, window[factory]);
  }
  rewriteExpressions();
  cdbRoot.classList.remove("dark"); // from here on Alpine's: it takes away only the classes that it gave itself
});
// cdb.css keeps what only Alpine can close (palette, filter sheet, dialogs) hidden until it runs.
document.addEventListener("alpine:initialized", () => { cdbRoot.dataset.alpine = "on"; });
