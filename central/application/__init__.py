"""People's side of central: signing in, projects and sites, and the page."""
