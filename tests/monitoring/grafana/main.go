// SPDX-License-Identifier: GPL-2.0-only

// grafana-schema FILE: is it a dashboard, by the schema that Grafana's makers publish (the Foundation SDK)? Every field
// of it, of its panels' options and of their Prometheus queries must be known and of its type, those that Grafana always
// writes must be there, and words must be of the schema's. A finding a line; exit status 1 if there is one.
//
// What no schema says is not checked: names of colors, of calculations and of fields in transformations and overrides.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
	"github.com/grafana/grafana-foundation-sdk/go/units"
)

// The schema takes any text as unit; Grafana shows one that it does not know as a suffix.
var known = map[string]bool{
	units.NoUnit: true, units.Short: true, units.PercentUnit: true, units.Seconds: true, units.Days: true,
	units.BytesIEC: true, units.BytesPerSecondSI: true, units.CountsPerSecond: true,
}

// What the schema enumerates, by the end of its place: read as text, it is not checked by the SDK. Those that this
// dashboard has a use for; a place that ends in one of the names and has another word is a finding.
var words = map[string][]any{
	"options.legend.displayMode":     {common.LegendDisplayModeList, common.LegendDisplayModeTable},
	"options.legend.placement":       {common.LegendPlacementBottom, common.LegendPlacementRight},
	"options.tooltip.mode":           {common.TooltipDisplayModeMulti, common.TooltipDisplayModeSingle},
	"options.tooltip.sort":           {common.SortOrderDescending, common.SortOrderNone},
	"options.orientation":            {common.VizOrientationAuto},
	"options.textMode":               {common.BigValueTextModeAuto, common.BigValueTextModeValue},
	"options.colorMode":              {common.BigValueColorModeValue, common.BigValueColorModeBackground},
	"options.graphMode":              {common.BigValueGraphModeNone, common.BigValueGraphModeArea},
	"options.justifyMode":            {common.BigValueJustifyModeAuto},
	"options.percentChangeColorMode": {common.PercentChangeColorModeStandard},
	"options.cellHeight":             {common.TableCellHeightSm},
	"thresholds.mode":                {dashboard.ThresholdsModeAbsolute},
	"thresholdsStyle.mode":           {common.GraphThresholdsStyleModeLine, common.GraphThresholdsStyleModeArea},
	"targets[].editorMode":           {prometheus.QueryEditorModeCode},
	"targets[].format":               {prometheus.PromQueryFormatTable, prometheus.PromQueryFormatTimeSeries},
	"templating.list[].type":         {dashboard.VariableTypeQuery, dashboard.VariableTypeDatasource},
}

var findings int

func report(format string, words ...any) {
	fmt.Printf("%s: %s\n", os.Args[1], fmt.Sprintf(format, words...))
	findings++
}

func reportAll(err error) {
	var all cog.BuildErrors
	if errors.As(err, &all) {
		for _, each := range all {
			report("%s", each)
		}
	} else if err != nil {
		report("%s", err)
	}
}

// Is it left out when it is written?
func empty(value any) bool {
	if value == nil {
		return true
	}
	what := reflect.ValueOf(value)
	if what.Kind() == reflect.Slice || what.Kind() == reflect.Map {
		return what.Len() == 0
	}
	return what.IsZero()
}

// Each field of the file must be there with its value when what was read of it is written: what the schema does not know
// is not read. And words must be among those that are enumerated for their place.
func compare(place string, have, written any) {
	switch value := have.(type) {
	case map[string]any:
		other, _ := written.(map[string]any)
		for name, each := range value {
			counterpart, found := other[name]
			if !found && !empty(each) {
				report("%s.%s: the schema does not know it", place, name)
			} else if found {
				compare(place+"."+name, each, counterpart)
			}
		}
	case []any:
		other, _ := written.([]any)
		if len(other) != len(value) {
			report("%s: %d of %d are known to the schema", place, len(other), len(value))
			return
		}
		for i := range value {
			compare(place+"[]", value[i], other[i])
		}
	default:
		if !reflect.DeepEqual(have, written) {
			report("%s: %v is read as %v", place, have, written)
		}
		checkWord(place, have)
	}
}

func checkWord(place string, have any) {
	for end, enumerated := range words {
		if !strings.HasSuffix(place, "."+end) {
			continue
		}
		found := false
		for _, word := range enumerated {
			found = found || fmt.Sprint(word) == have
		}
		if !found {
			report("%s: %v is none of %v", place, have, enumerated)
		}
	}
}

// A query has what it needs to be one.
func checkQuery(title string, query *prometheus.Dataquery) {
	if query.Expr == "" {
		report("panel %q: a query without an expression", title)
	}
	if query.RefId == nil || *query.RefId == "" {
		report("panel %q: a query without a refId", title)
	}
}

// What the schema leaves open: a type of panel or query that it does not know is taken as it is.
func checkPanel(panel *dashboard.Panel) {
	title := "?"
	if panel.Title != nil {
		title = *panel.Title
	}
	if _, found := cog.ConfigForPanelcfgVariant(panel.Type); !found {
		report("panel %q: no panel type %q", title, panel.Type)
	}
	for _, target := range panel.Targets {
		if query, is := target.(*prometheus.Dataquery); is {
			checkQuery(title, query)
		} else {
			report("panel %q: a query that is none of Prometheus: %T", title, target)
		}
	}
	if config := panel.FieldConfig; config == nil || config.Defaults.Unit == nil {
		report("panel %q: no unit", title)
	} else if !known[*config.Defaults.Unit] {
		report("panel %q: no unit %q", title, *config.Defaults.Unit)
	}
}

func compareAll(text []byte, document dashboard.Dashboard) {
	var have, written any
	again, err := json.Marshal(document)
	reportAll(err)
	reportAll(json.Unmarshal(text, &have))
	reportAll(json.Unmarshal(again, &written))
	compare("dashboard", have, written)
}

func main() {
	runtime := cog.NewRuntime()
	runtime.RegisterPanelcfgVariant(stat.VariantConfig())
	runtime.RegisterPanelcfgVariant(table.VariantConfig())
	runtime.RegisterPanelcfgVariant(timeseries.VariantConfig())
	runtime.RegisterDataqueryVariant(prometheus.VariantConfig())

	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	// The strict reader finds faults, and gives no panels: its errors without content are not nil.
	var strict, document dashboard.Dashboard
	reportAll(strict.UnmarshalJSONStrict(text))
	reportAll(json.Unmarshal(text, &document))
	reportAll(document.Validate())
	compareAll(text, document)
	panels := 0
	for _, each := range document.Panels {
		if each.Panel != nil {
			checkPanel(each.Panel)
			panels++
		}
	}
	if panels == 0 {
		report("no panels")
	}
	if findings != 0 {
		os.Exit(1)
	}
}
