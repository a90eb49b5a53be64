# The dashboard as one SVG: panels with the answers to their queries in, in the places that Grafana gives them.
# Input: {from, to, title, panels: [{title, type, unit, at: {x, y, w, h}, series: [{name, points: [[seconds, value]]}]}]}

def escaped: gsub("&"; "&amp;") | gsub("<"; "&lt;") | gsub(">"; "&gt;");
def rounded: . * 10 | round / 10;
def colors: ["#2563a8", "#d1495b", "#2e8b57", "#e08e2b", "#7d5ba6", "#3aa6a6", "#8a6d3b", "#5b6b7b"];
def text($x; $y; $size; $color; $anchor; $more):
  "<text x=\"\($x | rounded)\" y=\"\($y | rounded)\" font-size=\"\($size)\" fill=\"\($color)\" text-anchor=\"\($anchor)\"\($more)>\(escaped)</text>";

# The least of 1, 2, 5 times a power of ten that is not below.
def nice:
  if . <= 0 then 1 else
    . as $top | pow(10; log10 | floor) as $base | first((1, 2, 5, 10) * $base | select(. >= $top * 0.999))
  end;
def figure($unit):
  (if . == 0 then "0"
   elif . >= 10000 then "\(. / 1000 | rounded)k"
   elif . >= 10 then "\(. * 10 | round / 10)"
   elif . >= 0.1 then "\(. * 100 | round / 100)"
   else "\(. * 10000 | round / 10000)" end)
  + (if $unit == "s" then " s" else "" end);

# Without the points in the middle of a level.
def corners: . as $all | [range(0; length) as $n | select($n == 0 or $n == ($all | length) - 1
  or $all[$n][1] != $all[$n - 1][1] or $all[$n][1] != $all[$n + 1][1]) | $all[$n]];

def stat($x; $y; $w; $h):
  (.series[0] // {name: "-", points: []}) as $first
  | (if ($first.name | test("^v?[0-9]")) then $first.name else ($first.points[-1][1] // "-" | tostring) end)
  | text($x + $w / 2; $y + $h * 0.72; 34; "#2563a8"; "middle"; " font-weight=\"bold\"");

def timeseries($x; $y; $w; $h; $from; $to):
  .unit as $unit
  | [.series | to_entries[] | select(.value.points | length > 0)] as $lines
  | ([$lines[].value.points[][1]] | max // 1 | nice) as $top
  | ($x + 52) as $left | ($x + $w - 14) as $right | ($y + 34) as $upper | ($y + $h - 52) as $lower
  | def across: $left + (. - $from) / ($to - $from) * ($right - $left);
    def up: $lower - . / $top * ($lower - $upper);
  ( (0, 0.5, 1) * $top | . as $v | (up) as $at
    | "<line x1=\"\($left)\" x2=\"\($right)\" y1=\"\($at | rounded)\" y2=\"\($at | rounded)\" stroke=\"\(if $v == 0 then "#66727f" else "#e4e8ec" end)\"/>",
      ($v | figure($unit) | text($left - 6; $at + 4; 10; "#66727f"; "end"; "")) ),
  ( range(0; 3) | (. / 2) as $share
    | "\(($to - $from) * $share / 60 | rounded) min"
    | text($left + ($right - $left) * $share; $lower + 14; 10; "#66727f"; ["start", "middle", "end"][$share * 2]; "") ),
  ( $lines[] | (colors[.key % 8]) as $color
    | "<polyline fill=\"none\" stroke=\"\($color)\" stroke-width=\"1.6\" stroke-linejoin=\"round\" points=\"\([.value.points | corners[] | "\(.[0] | across | rounded),\(.[1] | up | rounded)"] | join(" "))\"/>" ),
  # The legend: what there is room for.
  ( ([2, ($w - 20) / 180 | floor] | max) as $columns | (($w - 20) / $columns) as $wide | ($wide / 5.6 - 4 | floor) as $most
    | $lines[:$columns * 2] | to_entries[]
    | ($x + 12 + (.key % $columns) * $wide) as $lx | ($lower + 30 + (.key / $columns | floor) * 14) as $ly
    | "<rect x=\"\($lx | rounded)\" y=\"\($ly - 8)\" width=\"10\" height=\"3\" fill=\"\(colors[.value.key % 8])\"/>",
      (.value.value.name | if length > $most then .[:$most - 1] + "…" else . end | text($lx + 14; $ly - 3; 10; "#1f2933"; "start"; "")) );

50 as $unit | 30 as $row | 56 as $head
| .from as $from | .to as $to
| ([.panels[].at | .y + .h] | max * $row + $head + 10) as $height
| "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"1220\" height=\"\($height)\" viewBox=\"0 0 1220 \($height)\" font-family=\"'DejaVu Sans', Verdana, sans-serif\" role=\"img\">",
  "<title>\(.title | escaped)</title>",
  "<rect width=\"1220\" height=\"\($height)\" fill=\"#f1f4f7\"/>",
  (.title | text(14; 34; 18; "#1f2933"; "start"; " font-weight=\"bold\"")),
  ( .panels[]
    | (10 + .at.x * $unit) as $x | ($head + .at.y * $row) as $y | (.at.w * $unit - 8) as $w | (.at.h * $row - 8) as $h
    | if .type == "row" then
        .title | text($x + 2; $y + 20; 13; "#66727f"; "start"; " font-weight=\"bold\"")
      else
        "<rect x=\"\($x)\" y=\"\($y)\" width=\"\($w)\" height=\"\($h)\" rx=\"3\" fill=\"#ffffff\" stroke=\"#d9dfe5\"/>",
        (.title | text($x + 12; $y + 20; 12; "#1f2933"; "start"; " font-weight=\"bold\"")),
        (if .type == "stat" then stat($x; $y; $w; $h) else timeseries($x; $y; $w; $h; $from; $to) end)
      end ),
  "</svg>"
