"""As `serving.local.deploying`, with the ingress of `faulty`; replicas import that class by its name."""

import serving.deployments.ingress
from serving.local.deploying import main
from tests.e2e.faulty import FaultyIngress

if __name__ == "__main__":
    serving.deployments.ingress.Ingress = FaultyIngress  # type: ignore[misc]  # chosen at run time
    main()
