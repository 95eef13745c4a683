// What a dashboard's JSON may hold, from Grafana's own types. Panels are typed by their kind: options and field settings are
// bags of anything in the dashboard's type, and known in detail in the kind's.
import type {DataQuery} from '@grafana/schema';
import type * as heatmap from '@grafana/schema/dist/esm/raw/composable/heatmap/panelcfg/x/HeatmapPanelCfg_types.gen';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as table from '@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
import type * as dashboard from '@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen';

// The same type as JSON spells it: enumerations by their values.
type Json<T> = unknown extends T ? unknown
  : T extends string ? `${T}`
  : T extends number ? (`${T}` extends `${infer N extends number}` ? N : never)
  : T extends (infer Item)[] ? Json<Item>[]
  : T extends object ? {[Key in keyof T]: Json<T[Key]>}
  : T;

// @grafana/schema has had no types of Prometheus's queries since they moved into its plugin; these are the fields that we use.
interface PrometheusQuery extends Omit<DataQuery, 'datasource'> {
  datasource: dashboard.DataSourceRef;
  expr: string;
  legendFormat: string;
  editorMode: 'code';
  format?: 'time_series' | 'table' | 'heatmap';
  range?: boolean;
  instant?: boolean;
}

// A property that an override sets, with the type of what it sets.
type Setting<Custom> =
  | {[Key in keyof Custom & string]-?: {id: `custom.${Key}`; value: Json<NonNullable<Custom[Key]>>}}[keyof Custom & string]
  | {[Key in keyof dashboard.FieldConfig & string]-?: {id: Key; value: Json<NonNullable<dashboard.FieldConfig[Key]>>}}[keyof dashboard.FieldConfig & string];

type PanelOf<Kind extends string, Options, Custom> = Omit<Json<dashboard.Panel>, 'type' | 'options' | 'fieldConfig' | 'targets'> & {
  type: Kind;
  options: Json<Options>;
  fieldConfig: {
    defaults: Omit<Json<dashboard.FieldConfig>, 'custom'> & {custom?: Json<Custom>};
    overrides: {matcher: Json<dashboard.MatcherConfig>; properties: Setting<Custom>[]}[];
  };
  targets: Json<PrometheusQuery>[];
};

export type HeatmapPanel = PanelOf<'heatmap', heatmap.Options, heatmap.FieldConfig>;
export type StatPanel = PanelOf<'stat', stat.Options, Record<never, never>>;
export type TablePanel = PanelOf<'table', table.Options, table.FieldConfig>;
export type TimeseriesPanel = PanelOf<'timeseries', timeseries.Options, timeseries.FieldConfig>;
export type RowPanel = Json<dashboard.RowPanel>;
// Its panels are checked one by one.
export type Dashboard = Omit<Json<dashboard.Dashboard>, 'panels'>;
