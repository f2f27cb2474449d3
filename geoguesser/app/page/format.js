// Formats numbers for display.

export function formatKm(value) {
  const digits = value < 1 ? 2 : value < 10 ? 1 : 0;
  return `${value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })}\u00a0km`;
}

export function formatPercent(share) {
  const value = 100 * share;
  return value > 0 && value < 1 ? "<\u00a01\u00a0%" : `${Math.round(value)}\u00a0%`;
}

export function formatScore(value) {
  return Math.round(value).toLocaleString("en");
}

export function formatPoint({ latitude, longitude }) {
  const northSouth = latitude < 0 ? "S" : "N", eastWest = longitude < 0 ? "W" : "E";
  return `${Math.abs(latitude).toFixed(4)}°\u00a0${northSouth}, ${Math.abs(longitude).toFixed(4)}°\u00a0${eastWest}`;
}

export function capitalize(word) {
  return word[0].toUpperCase() + word.slice(1);
}
