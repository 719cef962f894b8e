// Replaces unfold's copy of Chart.js (201 kB, blocking, on every page): no page of ours draws with it.
