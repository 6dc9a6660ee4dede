"""What is made from the services' declared metrics: their table in docs/, and Grafana's dashboards."""
