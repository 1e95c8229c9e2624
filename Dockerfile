# The program alone, for whoever starts it at night: docker build -t ecr-inventory-crawler .
# What it asks for it gets from the environment: credentials as the AWS CLI would, options as CRAWLER_….
ARG PYTHON=3.13

FROM python:${PYTHON}-slim AS build
WORKDIR /src
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY crawler ./crawler
# The versions of constraints.txt, of those packages only that are needed. Nothing is compiled: all have wheels.
RUN sed --regexp-extended '/^ +--hash/d; s/ *\\$//' constraints.txt > versions.txt \
    && python -m venv --without-pip /opt/crawler \
    && python -m pip --python /opt/crawler install --no-cache-dir --disable-pip-version-check \
        --only-binary :all: --no-binary ecr-inventory-crawler --constraint versions.txt '.[lake,report]'

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="ecr-inventory-crawler" \
      org.opencontainers.image.description="Every image ID of every Amazon ECR repository, over all accounts and regions" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/crawler /opt/crawler
ENV PATH=/opt/crawler/bin:$PATH
# A number, so that Kubernetes can tell that it is not root. Nothing is written but /tmp and what is mounted.
USER 10001:10001
WORKDIR /tmp
ENTRYPOINT ["crawler"]
CMD ["--help"]
