"""Which files there are: path in the repository → text."""

import json

from ebbgate_lab.monitoring import dashboards, page, panels

DASHBOARDS = "deploy/monitoring/dashboards"


def all_of_them() -> dict[str, str]:
    """A test compares them with what is committed."""
    found = {"docs/metrics.md": page.text()}
    for dashboard in dashboards.ALL:
        rendered = json.dumps(panels.render(dashboard), indent=2, ensure_ascii=False)
        found[f"{DASHBOARDS}/{dashboard.uid}.json"] = rendered + "\n"
    return found
